"""The fetcher and objects of the web: through the cache, and never mistaken for others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncfetch import Failure, Fetcher
from asyncfetch.errors import InvalidURI, ObjectNotFound, UsageError
from asyncfetch.testing import EmbeddedS3, RawRequest, ScriptedServer, answer
from asyncfetch.testing.scripted import Answer
from asyncfetch.uris import s3
from tests.servers import s3_client

MODIFIED = "Tue, 01 Sep 2026 10:00:00 GMT"
DATE = "Date: Wed, 02 Sep 2026 10:00:00 GMT"
BODIES = {"/tagged": b"tagged body", "/dated": b"dated body", "/bare": b"bare body"}


def serve(request: RawRequest) -> Answer:
    """An object with an ETag, one with a date, one with neither, and a redirect to the first."""
    if request.target == "/moved":
        return answer(status="302 Found", headers=["Location: /tagged"])
    body = BODIES.get(request.target)
    if body is None:
        return answer(b"<html>", status="404 Not Found")
    if request.header("if-none-match") == '"one"' or request.header("if-modified-since") == MODIFIED:
        return f"HTTP/1.1 304 Not Modified\r\n{DATE}\r\n\r\n".encode()
    told = {"/tagged": ['ETag: "one"'], "/dated": [f"Last-Modified: {MODIFIED}"], "/bare": []}[request.target]
    return answer(body, headers=[*told, DATE])


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(serve) as server:
        yield server


async def test_an_object_comes_through_the_cache(server: ScriptedServer, cache_dir: Path) -> None:
    uri = f"{server.url}/tagged"
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        entry = await fetcher.fetch(uri)
        assert (entry.uri, entry.path.read_bytes(), entry.etag) == (uri, b"tagged body", "one")
        assert not entry.from_cache
        assert (await fetcher.fetch(uri)).from_cache
        assert await fetcher.read_bytes(uri, 2, 6) == b"gged"
        assert (await fetcher.stat(uri)).size == 11
    assert [request.method for request in server.requests] == ["GET", "HEAD"]


@pytest.mark.parametrize(
    ("path", "statuses"),
    [("/tagged", ["if-none-match"]), ("/dated", ["if-modified-since"]), ("/bare", []), ("/moved", ["if-none-match"])],
)
async def test_the_next_job_asks_whether_it_has_changed(
    server: ScriptedServer, cache_dir: Path, path: str, statuses: list[str]
) -> None:
    uri = server.url + path
    for job in range(2):
        async with Fetcher(cache_dir=cache_dir) as fetcher:
            entry = await fetcher.fetch(uri)
            assert entry.path.read_bytes() == BODIES[path if path != "/moved" else "/tagged"]
            assert entry.from_cache == (job == 1 and path != "/bare")
    asked = [name for name in ("if-none-match", "if-modified-since") if server.requests[-1].header(name) is not None]
    assert asked == statuses


async def test_a_stream_of_both_kinds(server: ScriptedServer, cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"file body")
    sources = [f"{server.url}/tagged", f"{server.url}/missing", str(tmp_path / "file"), f"{server.url}/dated"]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        seen = [item async for item in fetcher.entries(sources, on_error="yield")]
    failure = seen.pop(1)
    assert isinstance(failure, Failure)
    assert isinstance(failure.exception, ObjectNotFound)
    assert failure.uri == sources[1]
    bodies = [item.path.read_bytes() for item in seen if not isinstance(item, Failure)]
    assert bodies == [b"tagged body", b"file body", b"dated body"]


async def test_an_object_of_s3_is_not_mistaken_for_one_of_the_web(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    """A bucket may be called as a host is, and its key begin with a slash."""
    host = server.url.removeprefix("http://")
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", server.url)
    async with Fetcher(cache_dir=cache_dir, anonymous=True, revalidate="never") as fetcher:
        assert (await fetcher.fetch(f"http://{host}/tagged")).path.read_bytes() == b"tagged body"
        with pytest.raises(ObjectNotFound):
            await fetcher.fetch(s3(host, "/tagged"))


async def test_a_public_object_of_s3_can_be_had_by_its_url(moto: EmbeddedS3, cache_dir: Path) -> None:
    client = s3_client(moto)
    client.create_bucket(Bucket="open-to-all")
    client.put_object(Bucket="open-to-all", Key="a b", Body=b"body", ACL="public-read")
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        entry = await fetcher.fetch(f"{moto.endpoint_url}/open-to-all/a%20b")
        assert entry.path.read_bytes() == b"body"


async def test_what_cannot_be_is_refused_clearly(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(UsageError, match="no listing"):
            async for _ in fetcher.list("https://example.com/"):
                pass
        with pytest.raises(InvalidURI, match="password") as caught:
            await fetcher.fetch("https://user:hush@example.com/a")
        assert "hush" not in str(caught.value)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        with pytest.raises(UsageError, match="NO_PROXY"):
            await fetcher.fetch("https://example.com/a")
    assert not any(b"hush" in path.read_bytes() for path in cache_dir.rglob("*") if path.is_file())
