"""Objects of the web: TLS, redirects, refusals, and calls that are ended."""

from __future__ import annotations

import asyncio
import pickle
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    EndpointUnreachable,
    FetcherClosed,
    ObjectNotFound,
    OriginError,
    OriginTimeout,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestRefused,
    ServerError,
    Throttled,
    TransferInterrupted,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import ByteRange
from asyncfetch.origins.http import MAX_REDIRECTS, HTTPOrigin
from asyncfetch.settings import NetworkPolicy, Settings
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer, answer
from tests.leaks import census
from tests.origins.scripts import at, fetched, head_of
from tests.origins.sinks import Collector, Stuck

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer

BODY = b"0123456789"
TAGGED = ['ETag: "one"']


# TLS.


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server whose certificate is trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    return tls


async def test_over_tls_a_body_may_end_with_a_farewell_but_not_with_a_cut(
    web: HTTPOrigin, trusted: ssl.SSLContext
) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    async with ScriptedServer([[head + BODY, Ending.CLOSE], [head + BODY, Ending.DROP]], tls=trusted) as server:
        assert await fetched(web, at(server)) == BODY
        with pytest.raises(TransferInterrupted):
            await web.read(at(server), Collector())


async def test_a_certificate_must_be_trusted(
    web: HTTPOrigin, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    async with ScriptedServer(tls=trusted) as server:
        with pytest.raises(EndpointUnreachable, match="certificate"):
            await web.stat(at(server))


async def test_the_systems_roots_stay_trusted_beside_a_bundle(
    trusted: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    web = HTTPOrigin(Settings())
    async with ScriptedServer([answer(BODY)], tls=trusted) as server:
        assert await fetched(web, at(server)) == BODY
        await web.aclose()


# Redirects.


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed_with_the_same_question(web: HTTPOrigin, status: str) -> None:
    async with ScriptedServer([answer(BODY, headers=TAGGED)]) as other:
        moved = answer(b"<html>" * 20_000, status=status, headers=[f"Location: {other.url}/b?c#d"])
        async with ScriptedServer([moved]) as server:
            sink = Collector()
            stat = await web.read(at(server), sink, range=ByteRange(2, 5), if_match="one")
            assert isinstance(stat, ObjectStat)
            assert (sink.data, stat.uri) == (b"234", str(at(server)))
            assert other.requests[0].target == "/b?c"
            assert other.requests[0].header("host") == f"127.0.0.1:{other.port}"
            assert other.requests[0].header("range") == "bytes=2-4"
            assert other.requests[0].header("if-match") == '"one"'


async def test_a_relative_redirect_is_read_against_its_own_page(web: HTTPOrigin) -> None:
    def answers(request: RawRequest) -> Answer:
        onwards = {"/dir/a.jpg": "b/c.jpg", "/dir/b/c.jpg": "../../d.jpg"}.get(request.target)
        return answer(status="302 Found", headers=[f"Location: {onwards}"]) if onwards else answer(BODY)

    async with ScriptedServer(answers) as server:
        assert await fetched(web, at(server, "/dir/a.jpg")) == BODY
        assert [request.target for request in server.requests] == ["/dir/a.jpg", "/dir/b/c.jpg", "/d.jpg"]
        assert server.connections == 1
        assert (await web.stat(at(server, "/dir/a.jpg"))).size == 10
        assert [request.method for request in server.requests[3:]] == ["HEAD"] * 3


async def test_five_redirects_are_followed_and_no_more(web: HTTPOrigin) -> None:
    def answers(request: RawRequest) -> Answer:
        left = int(request.target[1:])
        return answer(status="302 Found", headers=[f"Location: /{left - 1}"]) if left else answer(BODY)

    async with ScriptedServer(answers) as server:
        assert await fetched(web, at(server, f"/{MAX_REDIRECTS}")) == BODY
        with pytest.raises(RequestRefused, match="more than 5 times"):
            await web.read(at(server, f"/{MAX_REDIRECTS + 1}"), Collector())


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (None, "where to"),
        ("http://user:hush@127.0.0.1/", "password"),
        ("ftp://127.0.0.1/?hush", "ftp://"),
        ("http://[::1/?hush", "no URL"),
    ],
)
async def test_redirects_that_cannot_be_followed_say_why_and_not_where(
    web: HTTPOrigin, location: str | None, said: str
) -> None:
    headers = [] if location is None else [f"Location: {location}"]
    async with ScriptedServer([answer(status="302 Found", headers=headers)]) as server:
        with pytest.raises(RequestRefused, match=said) as caught:
            await web.read(at(server), Collector())
        assert (caught.value.status, caught.value.uri) == (302, str(at(server)))
        assert "hush" not in f"{caught.value!s} {vars(caught.value)}"


async def test_a_redirect_from_https_to_http_is_refused(web: HTTPOrigin, trusted: ssl.SSLContext) -> None:
    async with ScriptedServer() as plain:
        moved = answer(status="301 Moved", headers=[f"Location: {plain.url}/a.jpg"])
        async with ScriptedServer([moved], tls=trusted) as server:
            with pytest.raises(RequestRefused, match="from https to http"):
                await web.read(at(server), Collector())
        assert plain.connections == 0


async def test_the_target_of_a_redirect_is_not_told(web: HTTPOrigin) -> None:
    def answers(request: RawRequest) -> Answer:
        if request.target == "/a.jpg":
            return answer(status="302 Found", headers=["Location: /b?X-Amz-Signature=hush"])
        return answer(b"<html>hush", status="403 Forbidden")

    async with ScriptedServer(answers) as server:
        with pytest.raises(AccessDenied) as caught:
            await web.read(at(server), Collector())
        assert "hush" not in f"{caught.value!s} {caught.value!r} {vars(caught.value)} {pickle.dumps(caught.value)!r}"


# Refusals.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("404 Not Found", ObjectNotFound),
        ("410 Gone", ObjectNotFound),
        ("401 Unauthorized", AccessDenied),
        ("403 Forbidden", AccessDenied),
        ("408 Request Timeout", OriginTimeout),
        ("412 Precondition Failed", PreconditionFailed),
        ("416 Range Not Satisfiable", RangeNotSatisfiable),
        ("429 Too Many Requests", Throttled),
        ("503 Service Unavailable", Throttled),
        ("500 Oops", ServerError),
        ("502 Bad Gateway", ServerError),
        ("599 Whatever", ServerError),
        ("501 Not Implemented", RequestRefused),
        ("400 Bad Request", RequestRefused),
        ("300 Multiple Choices", RequestRefused),
        ("203 Transformed", RequestRefused),
        ("204 No Content", RequestRefused),
        ("304 Not Modified", RequestRefused),
    ],
)
@pytest.mark.parametrize("document", [b"", b"<html>" * 100_000])
async def test_each_refusal_is_an_error_of_its_kind(
    web: HTTPOrigin, status: str, kind: type[OriginError], document: bytes
) -> None:
    refused = answer(document, status=status, headers=["Retry-After: 7", "X-Request-Id: REQ1"])
    if status[:3] in ("204", "304"):
        refused = head_of(answer(status=status))
    async with ScriptedServer([refused, refused, answer(BODY)]) as server:
        sink = Collector()
        with pytest.raises(kind) as caught:
            await web.read(at(server), sink)
        assert type(caught.value) is kind
        assert not sink.touched
        assert (caught.value.uri, caught.value.status) == (str(at(server)), int(status[:3]))
        assert status[:3] in str(caught.value)
        if not status.startswith(("2", "304")):
            assert (caught.value.retry_after, caught.value.request_id) == (7.0, "REQ1")
        assert len(server.requests) == 1


async def test_a_refusal_whose_document_breaks_off_is_a_refusal_all_the_same(web: HTTPOrigin) -> None:
    torn: Answer = [b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 10\r\n\r\n", Ending.CLOSE]
    async with ScriptedServer([torn]) as server:
        with pytest.raises(PreconditionFailed):
            await web.read(at(server), Collector(), if_match="one")


# Life.


async def test_nobody_there(web: HTTPOrigin) -> None:
    async with ScriptedServer() as server:
        location = at(server)
    with pytest.raises(EndpointUnreachable, match=f"127.0.0.1:{server.port}"):
        await web.stat(location)


async def test_a_server_that_sends_nothing_is_not_waited_for_forever() -> None:
    web = HTTPOrigin(Settings(network=NetworkPolicy(read_timeout=0.05)))
    async with ScriptedServer([[Hold(asyncio.Event())]]) as server:
        with pytest.raises(OriginTimeout):
            await web.stat(at(server))
        await web.aclose()


async def test_closing_ends_calls_under_way(web: HTTPOrigin) -> None:
    async with ScriptedServer(lambda request: [Hold(asyncio.Event())]) as server:
        calls = [asyncio.create_task(web.stat(at(server, f"/{number}"))) for number in range(5)]
        await server.until(lambda: len(server.requests) == 5)
        await web.aclose()
        for call in calls:
            with pytest.raises(FetcherClosed):
                await call
        with pytest.raises(FetcherClosed):
            await web.stat(at(server))


@pytest.mark.parametrize("moment", ["before the answer", "within the body", "within a redirect"])
async def test_cancelling_leaves_nothing_open(web: HTTPOrigin, moment: str) -> None:
    def answers(request: RawRequest) -> Answer:
        if moment == "before the answer":
            return [Hold(asyncio.Event())]
        if moment == "within a redirect" and request.target == "/a.jpg":
            return answer(status="302 Found", headers=["Location: /b"])
        return [answer(BODY)[:-5], Hold(asyncio.Event())]

    async with ScriptedServer(answers) as server:
        before = census().tasks
        last = "/b" if moment == "within a redirect" else "/a.jpg"
        sink = Stuck()
        reading = asyncio.create_task(web.read(at(server), sink))
        await server.until(lambda: [request.target for request in server.requests][-1:] == [last])
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        data = sink.data
        await server.until(lambda: server.open == 0)
        assert sink.data == data
        assert census().tasks == before


async def test_every_error_can_be_pickled(web: HTTPOrigin) -> None:
    async with ScriptedServer([answer(status="404 Not Found"), [Ending.RESET]]) as server:
        for _ in range(2):
            with pytest.raises(AsyncfetchError) as caught:
                await web.read(at(server), Collector())
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_fifty_objects_at_once_share_the_connections(web: HTTPOrigin) -> None:
    async with ScriptedServer(lambda request: answer(request.target.encode())) as server:
        read = await asyncio.gather(*(fetched(web, at(server, f"/{number}")) for number in range(200)))
        assert read == [f"/{number}".encode() for number in range(200)]
        assert server.connections <= NetworkPolicy().connections
