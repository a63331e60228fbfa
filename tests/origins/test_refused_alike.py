"""Both ways to S3 name what goes wrong alike: every field of every error, for objects, heads and listings."""

from __future__ import annotations

import asyncio
import pickle
import ssl
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trustme

from asyncfetch.errors import (
    AsyncfetchError,
    CertificateUntrusted,
    EndpointUnreachable,
    NameNotResolved,
    OriginError,
    OriginTimeout,
    TLSFailed,
    TransferInterrupted,
)
from asyncfetch.origins import open_origins
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer
from tests.origins.scripts import OBJECT, head_of, listed, read, refusing

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.testing.scripted import Answer

Kind = Literal["native", "boto"]
KINDS: tuple[Kind, ...] = ("native", "boto")

DOCUMENTS = {
    "NoSuchKey": (404, ""),
    "NoSuchBucket": (404, ""),
    "NoSuchVersion": (404, ""),
    "AccessDenied": (403, ""),
    "AllAccessDisabled": (403, ""),
    "ExpiredToken": (400, ""),
    "InvalidAccessKeyId": (403, ""),
    "SignatureDoesNotMatch": (403, ""),
    "RequestTimeTooSkewed": (403, "<ServerTime>2020-01-01T00:00:00Z</ServerTime>"),
    "SlowDown": (503, ""),
    "ServiceUnavailable": (503, ""),
    "InternalError": (500, ""),
    "InvalidObjectState": (403, "<StorageClass>GLACIER</StorageClass>"),
    "KMS.DisabledException": (400, ""),
    "PreconditionFailed": (412, ""),
    "InvalidRange": (416, ""),
    "RequestTimeout": (400, ""),
    "KeyTooLongError": (400, ""),
}


def refused(code: str) -> bytes:
    status, more = DOCUMENTS[code]
    return refusing(code, status=f"{status} No", headers=["Content-Type: application/xml"], more=more)


async def raised(kind: Kind, url: str, call: Callable[..., Any], network: NetworkPolicy | None = None) -> OriginError:
    access = Access(endpoint_url=url, region="us-east-1", origin=kind)
    origin = open_origins(Settings(access=access, network=network or NetworkPolicy()))["s3"]
    try:
        await call(origin)
    except OriginError as error:
        return error
    finally:
        await origin.aclose()
    raise AssertionError("nothing was raised")


def told(error: OriginError) -> tuple[Any, ...]:
    shown = {name: value for name, value in vars(error).items() if name != "message"}
    return type(error), {**shown, "detail": error.detail.partition("it is ")[0]}


@pytest.mark.parametrize("what", ["read", "stat", "list"])
@pytest.mark.parametrize("code", DOCUMENTS)
@pytest.mark.usefixtures("signed")
async def test_a_refusal_is_the_same_error_by_either_way(code: str, what: str) -> None:
    calls: dict[str, Callable[..., Any]] = {"read": read, "stat": lambda origin: origin.stat(OBJECT), "list": listed}

    def reply(request: RawRequest) -> bytes:
        return head_of(refused(code)) if request.method == "HEAD" else refused(code)

    async with ScriptedServer(reply) as server:
        native, boto = [await raised(kind, server.url, calls[what]) for kind in KINDS]
    assert told(native) == told(boto)
    assert native.uri == str(OBJECT)
    status = DOCUMENTS[code][0]
    # A HEAD tells no code, and only those that can mean one thing or another are asked again by a GET.
    untold = what == "stat" and status in (412, 416, 500, 503)
    assert native.status == status
    assert (native.code, native.request_id) == (None if untold else code, "REQ1")
    for error in (native, boto):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), vars(copy), copy.args) == (type(error), vars(error), error.args)


@pytest.mark.usefixtures("signed")
async def test_a_head_that_is_refused_is_asked_about_once_and_the_answer_names_it() -> None:
    def reply(request: RawRequest) -> bytes:
        return head_of(refused("InvalidObjectState")) if request.method == "HEAD" else refused("InvalidObjectState")

    for kind in KINDS:
        async with ScriptedServer(reply) as server:
            error = await raised(kind, server.url, lambda origin: origin.stat(OBJECT))
            assert "archived in GLACIER" in str(error)
            assert [request.method for request in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("signed")
async def test_a_name_without_an_address(kind: Kind) -> None:
    error = await raised(kind, "http://nobody.invalid", read)  # RFC 6761, section 6.4: it never resolves
    assert type(error) is NameNotResolved
    assert isinstance(error, ConnectionError)
    assert "nobody.invalid" in str(error)
    assert error.retryable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("signed")
async def test_nobody_at_the_port(kind: Kind) -> None:
    async with ScriptedServer() as server:
        url = server.url
    error = await raised(kind, url, read)
    assert type(error) is EndpointUnreachable
    assert error.retryable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("signed")
async def test_a_certificate_that_is_not_trusted_is_not_asked_again(kind: Kind) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with ScriptedServer(tls=context) as server:
        error = await raised(kind, server.url, read)
    assert type(error) is CertificateUntrusted
    assert "AWS_CA_BUNDLE" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("signed")
async def test_a_port_that_does_not_speak_tls(kind: Kind) -> None:
    async with ScriptedServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        error = await raised(kind, server.url.replace("http://", "https://"), read)
    assert type(error) is TLSFailed


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", Ending.RESET], TransferInterrupted),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", Hold()], OriginTimeout),
    ],
)
@pytest.mark.usefixtures("signed")
async def test_what_breaks_on_the_way(reply: Answer, kinds: type[AsyncfetchError]) -> None:
    async with ScriptedServer(lambda _: reply) as server:
        network = NetworkPolicy(read_timeout=0.1)
        errors = await asyncio.gather(*(raised(kind, server.url, read, network) for kind in KINDS))
    assert [type(error) for error in errors] == [kinds, kinds]
