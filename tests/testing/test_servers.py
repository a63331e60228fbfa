"""The embedded S3 server: up when it is entered, counting, and gone with its context or its parent."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from asyncfetch.errors import AsyncfetchError, ExtraMissing, UsageError
from asyncfetch.testing import EmbeddedS3, SeenRequest
from tests.leaks import census
from tests.servers import s3_client

if TYPE_CHECKING:
    from pathlib import Path


def ask(server: EmbeddedS3, method: str, path: str) -> int:
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_it_serves_s3(moto: EmbeddedS3) -> None:
    client = s3_client(moto)
    client.create_bucket(Bucket="served")
    client.put_object(Bucket="served", Key="a", Body=b"abc")
    assert client.get_object(Bucket="served", Key="a")["Body"].read() == b"abc"
    assert moto.endpoint_url.startswith("http://127.0.0.1:")


def test_it_counts_what_it_answers() -> None:
    with EmbeddedS3() as server:
        assert server.requests() == {}
        assert ask(server, "PUT", "/counted") == 200
        assert [ask(server, "GET", "/counted/a%20b?x=1") for _ in range(3)] == [404] * 3
        assert server.requests() == {
            SeenRequest("PUT", "/counted", 200): 1,
            SeenRequest("GET", "/counted/a b", 404): 3,
        }
        server.reset_counts()
        assert server.requests().total() == 0


def test_it_leaves_nothing_behind() -> None:
    async def inside() -> tuple[object, object]:
        before = census()
        with EmbeddedS3() as server:
            ask(server, "GET", "/")
        async with EmbeddedS3() as server:
            assert server.requests().total() == 0
        return before, census()

    before, after = asyncio.run(inside())
    assert before == after


def test_it_is_used_inside_its_context_and_once_at_a_time() -> None:
    server = EmbeddedS3()
    for use in (server.requests, server.reset_counts, lambda: server.endpoint_url):
        with pytest.raises(UsageError, match="with"):
            use()
    with server, pytest.raises(UsageError, match="already"):
        server.__enter__()
    with server:  # but anew
        assert ask(server, "GET", "/") == 200


async def test_cancelling_its_start_ends_its_process() -> None:
    before = census()
    starting = asyncio.create_task(EmbeddedS3().__aenter__())
    await asyncio.sleep(0)
    assert len(census().children) == len(before.children) + 1
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert census().children == before.children


def test_a_server_that_died_says_so() -> None:
    others = set(psutil.Process().children())
    with EmbeddedS3() as server:
        [process] = set(psutil.Process().children()) - others
        process.kill()
        process.wait()
        with pytest.raises(AsyncfetchError, match="has ended"):
            server.requests()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_dies_with_its_parent(number: signal.Signals) -> None:
    program = """
import os, psutil, time
from asyncfetch.testing import EmbeddedS3
with EmbeddedS3() as server:
    [process] = psutil.Process().children()
    print(process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        parent.wait()
        server.wait(timeout=30)
    assert not server.is_running()


def test_an_interrupt_of_the_terminal_is_not_for_the_server() -> None:
    others = set(psutil.Process().children())
    with EmbeddedS3() as server:
        [process] = set(psutil.Process().children()) - others
        assert os.getpgid(process.pid) != os.getpgid(0)
        process.send_signal(signal.SIGINT)
        assert ask(server, "GET", "/") == 200


def test_without_moto_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncfetch.testing.servers.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"asyncfetch\[demo\]"):
        EmbeddedS3().__enter__()


def test_a_server_that_cannot_start_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto" / "__init__.py").write_text("raise RuntimeError('this moto is broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AsyncfetchError, match="this moto is broken"):
        EmbeddedS3().__enter__()


def test_no_secret_is_shown() -> None:
    assert EmbeddedS3.credentials.secret_access_key not in repr(EmbeddedS3.credentials)
