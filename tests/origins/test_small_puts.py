"""Small objects go over the package's own client: as botocore would send them, and tried as safely."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from asyncfetch.errors import ExpiredCredentials, PreconditionFailed, ServerError, TransferInterrupted
from asyncfetch.origins.small_puts import MOST
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.leaks import census
from tests.origins.identity import in_environment
from tests.origins.scripts import KEY_ID, OBJECT, SECRET, refusing
from tests.servers import needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.origins.control import Control
    from asyncfetch.testing.scripted import Answer
    from tests.origins.shelf import Shelf
    from tests.servers import Certificate, Server

BODY = b"a small body"
DONE = answer(headers=['ETag: "0123456789abcdef0123456789abcdef"', "x-amz-version-id: v7"])
TAKEN = refusing("PreconditionFailed", status="412 Precondition Failed")

# What botocore says on its own account, or each client in its own way.
_OF_A_CLIENT = {
    "host",
    "user-agent",
    "accept-encoding",
    "accept",
    "connection",
    "content-length",
    "expect",
    "authorization",
    "x-amz-date",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
}
EVERYTHING: dict[str, Any] = {
    "CacheControl": "max-age=60",
    "ContentDisposition": 'attachment; filename="a b"',
    "ContentEncoding": "identity",
    "ContentLanguage": "de, en",
    "ExpectedBucketOwner": "123456789012",
    "SSEKMSEncryptionContext": "eyJhIjoiYiJ9",
    "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/k",
    "ServerSideEncryption": "aws:kms",
    "StorageClass": "STANDARD_IA",
    "Tagging": "a=b&c=d",
}
RARE: dict[str, Any] = {"extra_args": {"GrantRead": "id=1"}}
METADATA = {"made-of": "cat", "Spaced": "two  blanks"}


def by_boto3(url: str, key: str, **request: Any) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(request_checksum_calculation="when_required"),
    )
    client.put_object(Bucket="bucket", Key=key, **request)
    client.close()


def headers_of(request: RawRequest) -> dict[str, str]:
    lines = [line.partition(":") for line in request.head.decode("latin-1").split("\r\n")[1:-2]]
    named = {name.lower(): " ".join(value.split()) for name, _, value in lines}
    return {name: value for name, value in named.items() if name not in _OF_A_CLIENT}


def by_aioboto3(request: RawRequest) -> bool:
    return "Botocore" in (request.header("user-agent") or "")


@pytest.mark.parametrize("key", ["key", "a/ü b+~*'/x", "//", "a%20b"])
async def test_a_request_says_what_boto3s_says(control: Callable[..., Control], signed: None, key: str) -> None:
    async with ScriptedServer(lambda request: DONE) as server:
        stat = await control(server.url).put(
            s3("bucket", key),
            BODY,
            content_type="image/webp",
            metadata=METADATA,
            extra_args=EVERYTHING,
            if_none_match="*",
        )
        crc = server.requests[0].header("x-amz-checksum-crc32")
        request = EVERYTHING | {"ContentType": "image/webp", "Metadata": METADATA, "IfNoneMatch": "*", "Body": BODY}
        request |= {"ChecksumCRC32": crc, "ChecksumAlgorithm": "CRC32"}
        await asyncio.to_thread(by_boto3, server.url, key, **request)
        ours, theirs = server.requests
    assert not by_aioboto3(ours)
    assert headers_of(ours) == headers_of(theirs)
    assert (ours.method, ours.target, ours.body) == (theirs.method, theirs.target, theirs.body)
    assert (stat.etag, stat.version) == ("0123456789abcdef0123456789abcdef", "v7")


@needs()
async def test_what_is_written_is_accepted(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    """rclone holds signatures and digests against what came, moto keeps what is said."""
    plane = control(server.endpoint_url)
    digest = hashlib.sha256(BODY).hexdigest()
    for key in ("plain", "a b/ü+%25~"):
        await plane.put(shelf.at(key), BODY, metadata={"made-of": "two  blanks"}, checksum=f"sha256:{digest}")
        assert shelf.body(key) == BODY
        head = await plane.head(shelf.at(key))
        assert " ".join(head.metadata["made-of"].split()) == "two blanks"


async def test_the_body_is_signed_where_nothing_else_guards_it(
    control: Callable[..., Control],
    signed: None,
    monkeypatch: pytest.MonkeyPatch,
    tls_certificate: Certificate,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_certificate.authority))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_certificate.chain)
    large = bytes(MOST)
    async with ScriptedServer(lambda request: DONE) as plain, ScriptedServer(lambda request: DONE, tls=context) as tls:
        for server in (plain, tls):
            for body in (BODY, large):
                await control(server.url).put(OBJECT, body)
        told = hashlib.sha256(b"other").hexdigest()
        await control(plain.url).put(OBJECT, BODY, checksum=f"sha256:{told}")  # who gives one answers for it
    digests = [request.header("x-amz-content-sha256") for request in plain.requests]
    assert digests == [hashlib.sha256(BODY).hexdigest(), hashlib.sha256(large).hexdigest(), told]
    assert {request.header("x-amz-content-sha256") for request in tls.requests} == {"UNSIGNED-PAYLOAD"}
    assert not any(map(by_aioboto3, plain.requests + tls.requests))


@pytest.mark.parametrize(
    ("options", "access"),
    [(RARE, {}), ({"extra_args": {"BucketKeyEnabled": True}}, {}), ({}, {"origin": "boto"})],
    ids=["rare", "no text", "asked for"],
)
async def test_what_aioboto3_writes(
    control: Callable[..., Control], signed: None, options: dict[str, Any], access: dict[str, Any]
) -> None:
    async with ScriptedServer(lambda request: DONE) as server:
        stat = await control(server.url, **access).put(OBJECT, BODY, **options)
        assert [by_aioboto3(request) for request in server.requests] == [True]
        assert stat.version == "v7"


async def test_anonymous_writes_are_not_signed(control: Callable[..., Control]) -> None:
    async with ScriptedServer([DONE]) as server:
        await control(server.url, anonymous=True).put(OBJECT, BODY)
        assert server.requests[0].header("authorization") is None
        assert server.requests[0].body == BODY


# Tried again, and what is known of it then.


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down"])
async def test_a_server_that_fails_is_asked_again(control: Callable[..., Control], signed: None, status: str) -> None:
    failed = answer(b"<Error><Code>Whatever</Code></Error>", status=status)
    async with ScriptedServer([failed, DONE]) as server:
        await control(server.url, network=NetworkPolicy(attempts=2)).put(OBJECT, BODY)
        assert [request.body for request in server.requests] == [BODY, BODY]


async def test_one_that_keeps_failing_is_given_up(control: Callable[..., Control], signed: None) -> None:
    failed = refusing("InternalError", status="500 Internal Server Error")
    network = NetworkPolicy(attempts=2)
    async with ScriptedServer([failed, failed]) as server:
        with pytest.raises(ServerError) as caught:
            await control(server.url, network=network).put(OBJECT, BODY)
        assert caught.value.attempts == 2
    async with ScriptedServer([[Ending.CLOSE], [Ending.RESET]]) as server:
        with pytest.raises(TransferInterrupted) as interrupted:
            await control(server.url, network=network).put(OBJECT, BODY)
        assert interrupted.value.attempts == 2


@pytest.mark.parametrize("ours", [True, False])
async def test_a_write_that_was_repeated_on_another_connection_knows_its_own_object(
    control: Callable[..., Control], signed: None, ours: bool
) -> None:
    """The connection had been used before: then the client repeats the request by itself."""
    there = BODY if ours else b"else"
    tag = f'ETag: "{hashlib.md5(there).hexdigest()}"'
    head = answer(there, headers=[tag]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    lost: Answer = [Ending.CLOSE]
    async with ScriptedServer([DONE, lost, TAKEN, head]) as server:
        plane = control(server.url, network=NetworkPolicy(attempts=1))
        await plane.put(OBJECT, b"before")
        write = plane.put(OBJECT, BODY, if_none_match="*")
        if ours:
            assert (await write).etag == hashlib.md5(BODY).hexdigest()
        else:
            with pytest.raises(PreconditionFailed, match="there is an object already"):
                await write
        assert [request.method for request in server.requests] == ["PUT", "PUT", "PUT", "HEAD"]


async def test_a_clock_that_is_off_is_allowed_for(
    control: Callable[..., Control], signed: None, caplog: pytest.LogCaptureFixture
) -> None:
    skewed = refusing("RequestTimeTooSkewed", status="403 Forbidden", headers=[f"Date: {formatdate(0, usegmt=True)}"])
    async with ScriptedServer([skewed, DONE, DONE]) as server:
        plane = control(server.url)
        with caplog.at_level(logging.WARNING):
            await plane.put(OBJECT, BODY)
            await plane.put(OBJECT, BODY)
        years = [(request.header("x-amz-date") or "")[:4] for request in server.requests]
    assert years[1:] == ["1970", "1970"]
    assert years[0] != "1970"


@pytest.mark.parametrize("options", [{}, RARE], ids=["ours", "aioboto3"])
async def test_a_token_that_has_expired_is_exchanged(
    control: Callable[..., Control], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    in_environment(monkeypatch, "AKIAFIRST", AWS_SESSION_TOKEN="first")

    def answers(request: RawRequest) -> bytes:
        if request.header("x-amz-security-token") == "second":
            return DONE
        in_environment(monkeypatch, "AKIASECOND", AWS_SESSION_TOKEN="second")
        return refusing("ExpiredToken", status="400 Bad Request")

    async with ScriptedServer(answers) as server:
        plane = control(server.url)
        await plane.put(OBJECT, BODY, **options)
        await plane.put(OBJECT, BODY)
        tokens = [request.header("x-amz-security-token") for request in server.requests]
        assert tokens == ["first", "second", "second"]


@pytest.mark.parametrize("options", [{}, RARE], ids=["ours", "aioboto3"])
async def test_a_token_that_has_no_successor_is_told(
    control: Callable[..., Control], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    in_environment(monkeypatch, "AKIAFIRST", AWS_SESSION_TOKEN="first")
    async with ScriptedServer([refusing("ExpiredToken", status="400 Bad Request")]) as server:
        with pytest.raises(ExpiredCredentials, match="ExpiredToken"):
            await control(server.url).put(OBJECT, BODY, **options)
        assert len(server.requests) == 1


async def test_a_write_that_is_cancelled_leaves_nothing_open(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer([DONE, [Hold()]]) as server:
        plane = control(server.url)
        await plane.put(OBJECT, BODY)
        before = census()
        writing = asyncio.create_task(plane.put(OBJECT, BODY))
        await server.until(lambda: len(server.requests) == 2)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await server.until(lambda: server.open == 0)
        assert census().tasks <= before.tasks


async def test_writes_at_once_are_as_many_as_is_allowed(control: Callable[..., Control], signed: None) -> None:
    go = asyncio.Event()
    async with ScriptedServer(lambda request: [Hold(go), DONE]) as server:
        plane = control(server.url, network=NetworkPolicy(concurrency=2))
        writing = [asyncio.create_task(plane.put(s3("bucket", str(number)), BODY)) for number in range(5)]
        await server.until(lambda: len(server.requests) == 2)
        assert server.connections == 2
        go.set()
        await asyncio.gather(*writing)
        assert len(server.requests) == 5
