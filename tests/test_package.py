"""The package as it is imported and shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

import asyncfetch
from asyncfetch.cli.app import app
from tests.cli.terminal import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_loads_the_ground_alone() -> None:
    loaded = loaded_by("import asyncfetch")
    assert {name for name in loaded if name.partition(".")[0] == "asyncfetch"} == {
        "asyncfetch",
        *(f"asyncfetch.{name}" for name in ("checks", "errors", "objects", "presigned", "settings", "uris", "version")),
    }
    assert not {"anyio", "asyncio", "blake3", "sqlite3", "ssl"} & loaded


def test_a_fetcher_loads_nothing_heavy_before_it_is_opened() -> None:
    loaded = loaded_by("import asyncfetch; asyncfetch.Fetcher(); asyncfetch.Stream")
    assert not {"aiobotocore", "aioboto3", "aiohttp", "botocore", "cv2", "numpy", "rich", "typer"} & loaded


def test_a_name_of_ascii_is_looked_up_without_idna() -> None:
    """Which takes 4 ms of a process's first connection."""
    code = """
import asyncio, asyncfetch
from asyncfetch import Access, Fetcher, NetworkPolicy
access = Access(endpoint_url="http://127.0.0.1:1", anonymous=True, region="us-east-1")
async def fetch():
    async with Fetcher(ephemeral=True, access=access, network=NetworkPolicy(attempts=1)) as fetcher:
        await fetcher.read_bytes("s3://bucket/key")
try:
    asyncio.run(fetch())
except ConnectionError:
    pass
"""
    assert not {"encodings.idna", "stringprep"} & loaded_by(code.replace("; ", "\n"))


def test_the_command_line_loads_the_command_it_is_asked_for() -> None:
    run = "from asyncfetch.cli.app import app; app({}, standalone_mode=False)"
    loaded = loaded_by(run.format(["--version"]))
    assert not {"asyncfetch.cli.ls", "asyncfetch.jobs", "asyncfetch.fetcher", "sqlite3"} & loaded
    assert not {"asyncfetch.cli.ls", "asyncfetch.jobs", "asyncfetch.fetcher"} & loaded_by(run.format(["--help"]))
    assert "asyncfetch.cli.ls" in loaded_by(run.format(["ls", "--help"]))
    # 0.2 s of a start that has nothing to do with what a download does
    loaded = loaded_by(run.format(["download", "--help"]))
    assert not {"asyncfetch.toolbox", "aioboto3", "botocore", "cv2", "numpy", "pyarrow", "pydantic"} & loaded


def test_help_says_of_each_command_what_that_says_of_itself() -> None:
    group: Any = get_command(app)
    told = {name: place.brief for name, place in group.places.items()}
    assert told == {name: group.get_command(None, name).get_short_help_str(200) for name in told}


def test_help_has_a_word_for_what_each_option_takes() -> None:
    def commands(one: Any) -> Iterator[Any]:
        names = one.list_commands(None) if hasattr(one, "list_commands") else []
        for name in names:
            yield from commands(one.get_command(None, name))
        if not names:
            yield one

    nameless = [
        f"{command.name} {parameter.name}"
        for command in commands(get_command(app))
        for parameter in command.params
        if parameter.name != "help" and parameter.metavar is None
    ]
    assert nameless == []


def test_what_is_loaded_late_is_there_when_it_is_named() -> None:
    for name in [*asyncfetch.__all__, "blocking"]:
        assert name in dir(asyncfetch)
        assert getattr(asyncfetch, name) is getattr(asyncfetch, name)
    assert "asyncfetch.streams.batch" in loaded_by("from asyncfetch import *; Batch, Fetcher, Substitute")


def test_the_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == asyncfetch.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(asyncfetch.__file__).parent / "py.typed").exists()


def test_imports_go_only_downwards() -> None:
    """The rooms of docs/design.md: one may import those below it, and never another's private names."""
    told = re.findall(r"^\| (`\w+`|ground) \| (.*) \|$", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    rooms = [room.strip("`") for room, _ in told]
    ground = set(re.findall(r"`(\w+)`", told[-1][1]))
    wrong = []
    package = Path(asyncfetch.__file__).parent
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        own = rooms.index("ground" if room in ground else room)
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("asyncfetch."):
                target = words[1].split(".")[1]
                private = any(re.match(r"_[a-z]", word.strip("(),")) for word in words[3:] if target != room)
                if rooms.index("ground" if target in ground else target) < own or private:
                    wrong.append(f"{path.relative_to(package)}: {line.strip()}")
    assert wrong == []
