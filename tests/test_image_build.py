"""The plain facts of the container image, which is built elsewhere."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_what_is_copied_is_in_the_checkout_and_let_through() -> None:
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_through
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_it_runs_the_command_as_an_ordinary_user_with_the_cache_as_a_volume() -> None:
    final = instructions()
    final = final[max(index for index, (word, _) in enumerate(final) if word == "FROM") :]
    [user] = [rest for word, rest in final if word == "USER"]
    assert user.isdecimal(), "Kubernetes has to see that it is not root"
    assert any(word == "RUN" and f"useradd --create-home --uid {user} asyncfetch" in rest for word, rest in final)
    assert [json.loads(rest) for word, rest in final if word == "ENTRYPOINT"] == [["asyncfetch"]]
    [volume] = [json.loads(rest) for word, rest in final if word == "VOLUME"]
    assert any(word == "ENV" and f"ASYNCFETCH_CACHE_DIR={volume[0]}" in rest.split() for word, rest in final)


def test_its_extras_are_those_of_the_package_and_it_is_not_built_unless_the_command_runs() -> None:
    [extras] = [
        json.loads(rest.partition("=")[2].replace("[", '["').replace(",", '","').replace("]", '"]'))
        for word, rest in instructions()
        if word == "ARG" and rest.startswith("EXTRAS")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras) == {"demo", "parquet"} <= set(project["optional-dependencies"])
    [install] = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert "asyncfetch --version" in install


def test_nothing_that_builds_is_in_the_last_stage() -> None:
    final = instructions()
    final = final[max(index for index, (word, _) in enumerate(final) if word == "FROM") :]
    assert [rest for word, rest in final if word == "RUN" and "pip" in rest] == []
    assert [rest for word, rest in final if word == "COPY" and not rest.startswith("--from=build")] == []
