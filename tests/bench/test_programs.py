"""Each program of the bench says how it is called, and ends in good order when it is told to."""

from __future__ import annotations

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import bench
from tests.cli.terminal import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM = Path(bench.__file__).parent
PROGRAMS = sorted(path.stem for path in ROOM.glob("*.py") if '"__main__":' in path.read_text())


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("signals")
def test_help_is_told_and_nothing_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOM / f"{name}.py"), run_name="__main__")
    assert left.value.code in (0, None)
    assert re.search("usage:", capsys.readouterr().out, re.IGNORECASE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_ends_with_its_bench(number: signal.Signals, tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from bench import servers
        from bench.ending import heed
        heed()
        with servers.listing(1) as server:
            print(server.pids[0], flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program.replace("\n        ", "\n")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert psutil.pid_exists(server)
        process.send_signal(number)
        process.wait()
    assert not psutil.pid_exists(server)
