"""The examples of the README and of docs/, run as they are typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asyncfetch.testing import EmbeddedS3, demo_objects
from tests.cli import forks
from tests.cli.terminal import environment
from tests.servers import put_object, s3_client

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]
TESTS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```pytest\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]
COMMANDS = [
    pytest.param(
        re.findall(r"^\$ (.*)$", "".join(re.findall(r"^```console\n(.*?)^```", page.read_text(), re.M | re.S)), re.M),
        id=page.name,
    )
    for page in PAGES
    if "```console" in page.read_text()
]


@pytest.fixture(scope="module")
def photographs() -> list[tuple[str, bytes]]:
    return list(demo_objects(12))


@pytest.fixture
def demo_bucket(moto: EmbeddedS3, photographs: list[tuple[str, bytes]]) -> dict[str, str]:
    """The bucket that the examples read, and the environment in which they find it. What others wrote there is gone."""
    client = s3_client(moto)
    client.create_bucket(Bucket="asyncfetch-demo")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="asyncfetch-demo"):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket="asyncfetch-demo", Key=found["Key"])
    for key, body in photographs:
        put_object(moto, "asyncfetch-demo", key, body)
    return {
        "AWS_ACCESS_KEY_ID": moto.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto.credentials.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "ASYNCFETCH_ENDPOINT_URL": moto.endpoint_url,
    }


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs_as_typed(
    code: str, demo_bucket: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, said = forks.run(["-c", code], environment(demo_bucket), b"")
    assert (status, said.decode()) == (0, "")


@pytest.mark.parametrize("commands", COMMANDS)
def test_the_commands_of_a_page_run_one_after_the_other(
    commands: list[str], demo_bucket: dict[str, str], tmp_path: Path
) -> None:
    command = shlex.join(forks.command())
    script = "\n".join(re.sub(r"\basyncfetch (?=[a-z])", f"{command} ", line) for line in commands)
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", script],
        cwd=tmp_path,
        env=environment(demo_bucket | {"ASYNCFETCH_CACHE_DIR": str(tmp_path / "cache")}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=forks.LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert commands
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("code", TESTS)
def test_an_example_of_a_test_passes(code: str, tmp_path: Path) -> None:
    example = tmp_path / "test_example.py"
    example.write_text(code)
    scratch = tmp_path / "scratch"  # pytest's own would first be rid of what runs long gone left there
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--basetemp={scratch}", "-o", "asyncio_mode=auto", str(example)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_commands_of_the_readme_are_the_ones_there_are() -> None:
    told = set(re.findall(r"`asyncfetch (\w+)", PAGES[0].read_text()))
    shown = subprocess.run(
        [sys.executable, "-m", "asyncfetch", "--help"], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    there = {line.split()[1] for line in shown.partition("Commands")[2].splitlines() if re.match(r"│ \w", line)}
    assert told == there


def test_the_two_commands_of_the_readme_name_extras_that_exist() -> None:
    commands = re.findall(r"^python3 -m venv .*$", PAGES[0].read_text(), re.MULTILINE)
    assert [shlex.split(command)[-1] for command in commands] == ["demo", "pytest"]
