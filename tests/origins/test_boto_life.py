"""The reference origin: the way to the endpoint, and its own opening and closing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trustme

from asyncfetch.errors import (
    EndpointUnreachable,
    FetcherClosed,
    OriginTimeout,
)
from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import Hold, RawRequest, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.leaks import census
from tests.origins.scripts import OBJECT, read
from tests.origins.sinks import Collector, Stuck

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer


# How it is reached.


async def test_nobody_at_the_endpoint(opened: Callable[..., BotoOrigin]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(EndpointUnreachable, match=f"127.0.0.1:{port}") as caught:
        await read(opened(f"http://127.0.0.1:{port}", anonymous=True))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_tls_to_a_plain_port(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        with pytest.raises(EndpointUnreachable, match="TLS"):
            await read(opened(server.url.replace("http:", "https:"), anonymous=True))


async def test_a_certificate_must_be_trusted(
    opened: Callable[..., BotoOrigin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with ScriptedServer(lambda request: answer(b"body"), tls=tls) as server:
        with pytest.raises(EndpointUnreachable, match="certificate"):
            await read(opened(server.url, anonymous=True))
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert await read(opened(server.url, anonymous=True)) == b"body"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        with pytest.raises(EndpointUnreachable, match="No such file"):
            await read(opened(server.url, anonymous=True))


@pytest.mark.parametrize("before", [b"", answer(b"1234567890")[:-4]])
async def test_an_origin_that_falls_silent_is_a_timeout(opened: Callable[..., BotoOrigin], before: bytes) -> None:
    async with ScriptedServer([[before, Hold(asyncio.Event())]]) as server:
        with pytest.raises(OriginTimeout) as caught:
            await read(opened(server.url, anonymous=True, network=NetworkPolicy(read_timeout=0.1)))
        assert caught.value.uri == str(OBJECT)
        await server.until(lambda: server.open == 0)


# Opening and closing.


async def test_the_first_calls_make_one_client(
    opened: Callable[..., BotoOrigin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "credentials.py"
    program.write_text(
        "import json, sys\n"
        f"open({str(calls)!r}, 'a').write('x')\n"
        "json.dump({'Version': 1, 'AccessKeyId': 'A', 'SecretAccessKey': 'S'}, sys.stdout)\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -I {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    async with ScriptedServer(lambda request: answer(b"body")) as server:
        origin = opened(server.url)
        first, *others = [asyncio.create_task(read(origin)) for _ in range(10)]
        await asyncio.sleep(0)  # they all wait for the client now
        first.cancel()
        assert await asyncio.gather(*others) == [b"body"] * 9
        assert first.cancelled()
        assert calls.read_text() == "x"


async def test_closing_ends_what_is_under_way(opened: Callable[..., BotoOrigin]) -> None:
    before = census().tasks
    held = asyncio.Event()

    def answers(request: RawRequest) -> Answer:
        return [answer(b"")[:20], Hold(held)] if request.target == "/bucket/head" else answer(bytes(20_000_000))

    async with ScriptedServer(answers) as server:
        origin = opened(server.url, anonymous=True, network=NetworkPolicy(concurrency=2))
        sink = Stuck()
        calls = [
            asyncio.create_task(origin.read(OBJECT, sink)),
            asyncio.create_task(origin.read(s3("bucket", "head"), Collector())),
        ]
        await sink.begun.wait()
        await server.until(lambda: len(server.requests) == 2)
        # This one has no connection yet: the first two hold both.
        calls.append(asyncio.create_task(origin.stat(OBJECT)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(origin.aclose())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await origin.aclose()  # while the calls are being ended
        await closing
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [FetcherClosed] * 3
        await server.until(lambda: server.open == 0)
        with pytest.raises(FetcherClosed):
            await origin.stat(OBJECT)
        with pytest.raises(FetcherClosed):
            [_ async for _ in origin.list(OBJECT)]
        assert len(server.requests) == 2
    assert census().tasks == before


async def test_closing_while_the_client_is_made(opened: Callable[..., BotoOrigin]) -> None:
    before = census().tasks
    async with ScriptedServer(lambda request: answer(b"body")) as server:
        origin = opened(server.url, anonymous=True)
        call = asyncio.create_task(read(origin))
        await asyncio.sleep(0)
        await origin.aclose()
        with pytest.raises(FetcherClosed):
            await call
        assert (server.requests, server.connections) == ([], 0)
    assert census().tasks == before


async def test_a_cancelled_call_is_not_taken_for_a_closed_origin(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer([[Hold(asyncio.Event())]]) as server:
        call = asyncio.create_task(read(opened(server.url, anonymous=True)))
        await server.until(lambda: len(server.requests) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda: server.open == 0)


def test_the_libraries_are_imported_with_the_first_call() -> None:
    program = (
        "import sys, asyncfetch.origins.boto\n"
        "print([name for name in ('aioboto3', 'botocore', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
