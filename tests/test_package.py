"""The package as it is imported and shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import asyncfetch
from tests.cli.terminal import environment

ROOT = Path(__file__).parents[1]


def test_importing_loads_nothing_heavy() -> None:
    code = "import asyncfetch, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"cv2", "botocore", "aiobotocore", "aioboto3", "aiohttp", "numpy", "typer", "rich"} & set(loaded)


def test_the_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == asyncfetch.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(asyncfetch.__file__).parent / "py.typed").exists()


def test_imports_go_only_downwards() -> None:
    """DESIGN's order of rooms: a room may import those after it, and never another room's private names."""
    rooms = [
        "cli",
        "jobs",
        "toolbox",
        "blocking",
        "testing",
        "fetcher",
        "supervisor",
        "streams",
        "engine",
        "decode",
        "cache",
        "origins",
        "http",
        "ground",
    ]
    ground = {"uris", "errors", "settings", "objects", "ledger", "presigned", "version"}
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
