"""Where credentials come from in tests: a home directory, a helper program, and HTTP endpoints of our own."""

import asyncio
import json
import os
import pickle
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncfetch.errors import OriginError
from asyncfetch.origins.credentials import CredentialSource

URI = "s3://bucket/key"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

PROFILES = """
[profile helper]
credential_process = {python} {home}/helper.py {home}
region = eu-central-2
[profile sso]
sso_start_url = https://example.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = reader
[profile role]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = static
region = us-east-1
[profile missing]
credential_process = {home}/no-such-program
"""

# Gives credentials numbered by its runs and good for as many seconds as the file `life` says, when the one who listens
# at the port in `gate` closes the connection; fails while there is a file `fail`.
HELPER = """
import datetime, json, pathlib, socket, sys
here = pathlib.Path(sys.argv[1])
with open(here / "runs", "a") as runs:
    runs.write("x")
number = (here / "runs").stat().st_size
if (here / "gate").exists():
    socket.create_connection(("127.0.0.1", int((here / "gate").read_text()))).recv(1)
if (here / "fail").exists():
    sys.exit((here / "fail").read_text())
life = datetime.timedelta(seconds=float((here / "life").read_text()))
print(json.dumps({
    "Version": 1, "AccessKeyId": f"ASIA{number}", "SecretAccessKey": "SECRET", "SessionToken": f"token{number}",
    "Expiration": (datetime.datetime.now(datetime.timezone.utc) + life).isoformat(),
}))
"""


class Clock:
    """A clock that stands still until a test puts it forward."""

    def __init__(self) -> None:
        self.start = time.time()
        self.ahead = 0.0

    def __call__(self) -> float:
        return self.start + self.ahead


class Helper:
    """A credential_process of the profile `helper`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "helper.py").write_text(HELPER.replace("SECRET", SECRET))
        self.life = 3600.0

    def __setattr__(self, name: str, value: object) -> None:
        if name == "life":
            (self.directory / "life").write_text(str(value))
        super().__setattr__(name, value)

    @property
    def runs(self) -> int:
        runs = self.directory / "runs"
        return runs.stat().st_size if runs.exists() else 0

    def fail(self, text: str = "no luck") -> None:
        (self.directory / "fail").write_text(text)

    def recover(self) -> None:
        (self.directory / "fail").unlink()

    async def shut(self) -> "Gate":
        gate = Gate(self.directory / "gate")
        gate.server = await asyncio.start_server(gate.arrive, "127.0.0.1")
        gate.path.write_text(str(gate.server.sockets[0].getsockname()[1]))
        return gate


class Gate:
    """Makes the helper wait until it is opened."""

    server: asyncio.Server

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()

    async def arrive(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived.set()
        await self.opened.wait()
        writer.close()
        await writer.wait_closed()

    async def reached(self) -> None:
        await self.arrived.wait()

    def open(self) -> None:
        self.path.unlink()
        self.server.close()
        self.opened.set()


def lay_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with no AWS configuration but the profiles here, and an environment with none."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    (home / ".aws").mkdir()
    (home / ".aws/config").write_text(PROFILES.format(python=sys.executable, home=home))
    write_static(home, "AKIASTATIC")
    return home


def write_static(home: Path, access_key: str) -> None:
    (home / ".aws/credentials").write_text(
        f"[static]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET}\naws_session_token = token\n"
    )


@asynccontextmanager
async def source(profile: str | None = None, clock: Callable[[], float] = time.time) -> AsyncIterator[CredentialSource]:
    made = CredentialSource(profile, clock=clock)
    try:
        yield made
    finally:
        await made.aclose()


def in_environment(monkeypatch: pytest.MonkeyPatch, access_key: str = "AKIAENV", **more: str) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": SECRET, **more}.items():
        monkeypatch.setenv(name, value)


Answer = bytes | None | asyncio.Future[bytes]


@asynccontextmanager
async def server(*answers: Answer, status: str = "200 OK") -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """An HTTP server with an answer for each request, the last one for all that follow; None is never to answer.

    Gives its URL and the requests: the body of one that has a body, else the head. An empty one is a client that left.
    """
    seen = asyncio.Queue[bytes]()
    tasks = set[asyncio.Task[None]]()
    remaining = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        seen.put_nowait(await reader.readexactly(int(length[0].split(b":")[1])) if length else head)
        if answer is None:
            seen.put_nowait(await reader.read())
        else:
            body = answer if isinstance(answer, bytes) else await answer
            writer.write(
                f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
        writer.close()
        await writer.wait_closed()

    serving = await asyncio.start_server(serve, "127.0.0.1")
    async with serving:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}", seen
        if tasks:
            await asyncio.wait(tasks)


def boxed(access_key: str, life: float) -> bytes:
    """What a container's endpoint answers."""
    expiry = (datetime.now(UTC) + timedelta(seconds=life)).isoformat()
    return json.dumps(
        {"AccessKeyId": access_key, "SecretAccessKey": SECRET, "Token": "box", "Expiration": expiry}
    ).encode()


def nothing_shown(error: OriginError) -> bool:
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [str(error), repr(error), pickle.dumps(error).decode("latin-1"), repr(vars(error))]
    return not any(SECRET in text for text in shown)
