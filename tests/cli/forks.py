"""Programs that are forked from one that has the package imported: a start costs 0.02 s instead of 0.7 s.

Run as a program it is that one: for each connection to the socket that is its standard input it forks a process with
the arguments, environment and directory, and the three descriptors that come through it, and answers with its exit
code. The arguments are those of the command, or `-c` and the code of a program of its own. What a start itself does
is for those tests that start `COMMAND`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 55  # seconds: before pytest ends the test, and would leave the process


def command() -> list[str]:
    """What a shell calls that is to have the command forked: a program of the standard library's that asks for it."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("fork.py")), _parent()]


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
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OPENBLAS_NUM_THREADS": "1",  # NumPy's would be threads, with which one should not fork
            },
            start_new_session=True,
        )
    atexit.register(directory.cleanup)
    atexit.register(process.wait)
    atexit.register(process.kill)
    return path


def _serve() -> None:
    """Starts what is asked for, and tells how each ended once nothing of it is left."""
    _import_all()
    gc.collect()
    gc.freeze()  # a collection would copy what it looks at
    listener = socket.socket(fileno=0)
    ended, ends = socket.socketpair()
    ends.setblocking(False)
    signal.set_wakeup_fd(ends.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, _Running] = {}
    while True:
        ready, _, _ = select.select([listener, ended], [], [], 1.0)
        if ended in ready:
            ended.recv(4096)
        if listener in ready:
            connection, _ = listener.accept()
            child = _start(connection, [listener, ended, ends, *(one.connection for one in running.values())])
            running[child] = _Running(connection, time.monotonic() + LIMIT)
        for child, one in list(running.items()):
            late = time.monotonic() > one.until
            if late:
                os.kill(child, signal.SIGKILL)
            found, status = os.waitpid(child, 0 if late else os.WNOHANG)
            if found:
                del running[child]
                with one.connection, contextlib.suppress(BrokenPipeError):  # who asked may be gone
                    one.connection.sendall(b"" if late else b"%d" % os.waitstatus_to_exitcode(status))


class _Running(NamedTuple):
    connection: socket.socket
    until: float


def _start(connection: socket.socket, others: list[socket.socket]) -> int:
    """Forks the process that the other side of a connection asks for."""
    length, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        arguments, environment, directory = json.loads(file.read(int.from_bytes(length, "big")))
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in connection, *others:
            one.close()
        _become(arguments, environment, directory, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return child


def _import_all() -> None:
    import typer

    from asyncfetch.cli.app import app

    for name in (
        "aioboto3.s3.inject",
        "anyio._backends._asyncio",
        "asyncfetch.cache.upkeep",
        "asyncfetch.datastore",
        "asyncfetch.fetcher",
        "asyncfetch.origins.boto",
        "asyncfetch.origins.boto_transport",
        "asyncfetch.origins.http",
        "asyncfetch.origins.offline",
        "asyncfetch.origins.s3",
        "asyncfetch.toolbox",
        "cloudpickle",
        "numpy",
        "rich.progress",
        "typer.rich_utils",
        "uvloop",
    ):
        importlib.import_module(name)
    _read_models()
    with contextlib.suppress(Exception):  # an argument is missing: what typer imports to say so is there then
        app(["get"], standalone_mode=False)
    group: Any = typer.main.get_command(app)
    for name in group.places:
        group.get_command(None, name)


def _read_models() -> None:
    """What a client of S3 is made from, which a process reads once."""
    from aiobotocore.session import AioSession

    from asyncfetch.origins.boto_models import share_models

    models = share_models(AioSession())
    for name in ("partitions", "endpoints", "sdk-default-configuration"):
        models.load_data(name)
    for name in ("service-2", "endpoint-rule-set-1"):
        models.load_service_model("s3", name)


def _become(arguments: list[str], environment: dict[str, str], directory: str, descriptors: list[int]) -> NoReturn:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    run = _run_code if arguments[:1] == ["-c"] else _run_command
    try:
        run(arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:  # as an interpreter does with what nobody caught
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    # What an interpreter does at its end, except for taking itself apart: in a fork that copies all of its memory.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what was not closed says so
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run_command(arguments: list[str]) -> None:
    from asyncfetch.cli import main

    sys.argv = ["asyncfetch", *arguments]
    main()


def _run_code(arguments: list[str]) -> None:
    sys.argv = [arguments[0], *arguments[2:]]
    sys.path[0] = ""
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]
    main.__dict__.clear()


if __name__ == "__main__":
    _serve()
