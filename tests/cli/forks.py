"""Processes of the command that are forked from one that has it imported: a start costs 0.02 s instead of 0.7 s.

Run as a program it is that one: for each connection to the socket that is its standard input it forks a process with
the arguments, environment and directory, and the three descriptors that come through it, and answers with its exit
code. What a start itself does is for those tests that start `COMMAND`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 55  # seconds: before pytest ends the test, and would leave the process


def run(arguments: Sequence[str], environment: Mapping[str, str], given: bytes) -> tuple[int, bytes, bytes]:
    """Runs the command; gives its exit code (negative for the signal that ended it), output and error output."""
    reading, writing = os.pipe()
    feeding = threading.Thread(target=_feed, args=(writing, given))
    feeding.start()
    with (
        socket.socket(socket.AF_UNIX) as connection,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        connection.connect(_parent())
        wanted = json.dumps([arguments, dict(environment), os.getcwd()]).encode()
        descriptors = [reading, output.fileno(), errors.fileno()]
        socket.send_fds(connection, [len(wanted).to_bytes(4, "big")], descriptors)
        os.close(reading)
        connection.sendall(wanted)
        code = connection.recv(9)
        feeding.join()
        output.seek(0)
        errors.seek(0)
        said = output.read(), errors.read()
    if not code:
        raise TimeoutError(f"asyncfetch {' '.join(arguments)} took longer than {LIMIT} s: {said}")
    return int(code), *said


def _feed(writing: int, given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(writing, "wb") as file:
        file.write(given)


@cache
def _parent() -> str:
    directory = tempfile.TemporaryDirectory(prefix="asyncfetch-")
    path = f"{directory.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            stdin=listener.fileno(),
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    atexit.register(directory.cleanup)
    atexit.register(process.wait)
    atexit.register(process.kill)
    return path


def _serve() -> None:
    _import_all()
    signal.signal(signal.SIGALRM, _too_long)
    gc.collect()
    gc.freeze()  # a collection would copy what it looks at
    listener = socket.socket(fileno=0)
    while True:
        connection, _ = listener.accept()
        length, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as file:
            arguments, environment, directory = json.loads(file.read(int.from_bytes(length, "big")))
        child = os.fork()
        if not child:
            listener.close()
            connection.close()
            _become(arguments, environment, directory, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(_ended(child))
        connection.close()


def _import_all() -> None:
    import typer

    from asyncfetch.cli.app import app

    for name in ("asyncfetch.cache.upkeep", "asyncfetch.fetcher", "asyncfetch.toolbox", "rich.progress", "uvloop"):
        importlib.import_module(name)
    with contextlib.suppress(Exception):  # an argument is missing: what typer imports to say so is there then
        app(["get"], standalone_mode=False)
    group: Any = typer.main.get_command(app)
    for name in group.places:
        group.get_command(None, name)


def _become(arguments: list[str], environment: dict[str, str], directory: str, descriptors: list[int]) -> NoReturn:
    from asyncfetch.cli import main

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["asyncfetch", *arguments]
    try:
        main()
    except SystemExit as end:
        # What an interpreter does at its end, except for taking itself apart: in a fork that copies all of its memory.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    raise AssertionError("main ends its process")


def _ended(child: int) -> bytes:
    signal.alarm(LIMIT)
    try:
        _, status = os.waitpid(child, 0)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return b""
    finally:
        signal.alarm(0)
    return b"%d" % os.waitstatus_to_exitcode(status)


def _too_long(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    _serve()
