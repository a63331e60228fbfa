"""Writes under conditions, refused, repeated, broken off: what then is there, and what is told."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from asyncfetch.errors import (
    AccessDenied,
    EncryptionKeyDenied,
    FetcherClosed,
    IntegrityError,
    PreconditionFailed,
    Throttled,
    UsageError,
)
from asyncfetch.origins.control import Control
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import Ending, Hold, RawRequest, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.leaks import census
from tests.origins.scripts import OBJECT, refusing
from tests.servers import needs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from asyncfetch.testing import EmbeddedS3
    from asyncfetch.testing.scripted import Answer
    from tests.origins.shelf import Shelf
    from tests.servers import Server

SMALL, LARGE = b"body", bytes(9 << 20)
TAG = 'ETag: "0123456789abcdef0123456789abcdef"'
DONE = answer(headers=[TAG])


# Under a condition.


@needs("if_match")
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["whole", "parts"])
async def test_nothing_is_overwritten_where_that_is_asked(
    control: Callable[..., Control], server: Server, shelf: Shelf, body: bytes
) -> None:
    plane = control(server.endpoint_url)
    await plane.put(shelf.at("k"), b"first", if_none_match="*")
    with pytest.raises(PreconditionFailed, match="there is an object already") as caught:
        await plane.put(shelf.at("k"), body, if_none_match="*")
    assert (caught.value.uri, caught.value.status) == (str(shelf.at("k")), 412)
    assert shelf.body("k") == b"first"
    assert shelf.uploads() == []
    await plane.put(shelf.at("new"), body, if_none_match="*")
    assert shelf.body("new") == body


@needs("if_match")
async def test_only_a_certain_object_is_overwritten(
    control: Callable[..., Control], server: Server, shelf: Shelf
) -> None:
    plane = control(server.endpoint_url)
    first = await plane.put(shelf.at("k"), b"first")
    await plane.put(shelf.at("k"), b"second", if_match=first.etag)
    with pytest.raises(PreconditionFailed, match="the object has changed"):
        await plane.put(shelf.at("k"), b"third", if_match=first.etag)
    assert shelf.body("k") == b"second"


@needs("if_match")
async def test_of_many_writers_at_once_one_wins(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    planes = [control(server.endpoint_url) for _ in range(3)]
    writes = [plane.put(shelf.at("k"), bytes([turn]), if_none_match="*") for turn in range(4) for plane in planes]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes) == len(writes) - 1


@pytest.mark.parametrize(("there", "ours"), [(SMALL, True), (b"else", False)])
async def test_a_write_whose_answer_was_lost_knows_its_own_object(
    control: Callable[..., Control], signed: None, there: bytes, ours: bool
) -> None:
    tag = f'ETag: "{hashlib.md5(there).hexdigest()}"'
    head = answer(there, headers=[tag]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    lost: Answer = [Ending.CLOSE]
    async with ScriptedServer([lost, refusing("PreconditionFailed", status="412 Precondition Failed"), head]) as server:
        write = control(server.url).put(OBJECT, SMALL, if_none_match="*")
        if ours:
            assert (await write).etag == hashlib.md5(there).hexdigest()
        else:
            with pytest.raises(PreconditionFailed, match="there is an object already") as caught:
                await write
            assert caught.value.attempts == 2
        assert [request.method for request in server.requests] == ["PUT", "PUT", "HEAD"]


async def test_an_equal_object_of_another_is_still_another(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer([refusing("PreconditionFailed", status="412 Precondition Failed")]) as server:
        with pytest.raises(PreconditionFailed):
            await control(server.url).put(OBJECT, SMALL, if_none_match="*")
        assert len(server.requests) == 1


async def test_a_conflict_with_another_writer_is_tried_again(control: Callable[..., Control], signed: None) -> None:
    conflict = refusing("ConditionalRequestConflict", status="409 Conflict")
    async with ScriptedServer([conflict, conflict, DONE]) as server:
        await control(server.url).put(OBJECT, SMALL, if_none_match="*")
        assert [request.body for request in server.requests] == [SMALL] * 3
        assert {request.header("if-none-match") for request in server.requests} == {"*"}


# Told, and refused.


async def test_the_server_is_told_a_checksum(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer(lambda request: DONE) as server:
        plane = control(server.url)
        await plane.put(OBJECT, SMALL)
        stat = await plane.put(OBJECT, SMALL, checksum=f"sha256:{hashlib.sha256(SMALL).hexdigest()}")
        crc, sha = server.requests
        assert crc.header("x-amz-checksum-crc32") == b64encode(zlib.crc32(SMALL).to_bytes(4)).decode()
        assert sha.header("x-amz-checksum-sha256") == b64encode(hashlib.sha256(SMALL).digest()).decode()
        assert stat.checksum == f"sha256:{hashlib.sha256(SMALL).hexdigest()}"


async def test_parts_and_the_whole_are_told_their_checksums(control: Callable[..., Control], signed: None) -> None:
    body = os.urandom(17 << 20)
    parts = [body[: 8 << 20], body[8 << 20 : 16 << 20], body[16 << 20 :]]
    begun = answer(b"<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>")
    done = answer(b'<CompleteMultipartUploadResult><ETag>"e-3"</ETag></CompleteMultipartUploadResult>')

    def answers(request: RawRequest) -> Answer:
        if request.method == "PUT":
            return DONE
        return begun if request.target.endswith("?uploads") else done

    def told(data: bytes) -> str:
        return b64encode(zlib.crc32(data).to_bytes(4)).decode()

    async with ScriptedServer(answers) as server:
        stat = await control(server.url).put(OBJECT, body)
        first, *puts, last = server.requests
    assert stat.checksum == f"crc32:{zlib.crc32(body):08x}"
    assert (first.header("x-amz-checksum-algorithm"), first.header("x-amz-checksum-type")) == ("CRC32", "FULL_OBJECT")
    sent = {request.target.partition("partNumber=")[2][:1]: request for request in puts}
    assert [sent[number].header("x-amz-checksum-crc32") for number in "123"] == [told(part) for part in parts]
    assert last.header("x-amz-checksum-crc32") == told(body)
    assert last.header("x-amz-checksum-type") == "FULL_OBJECT"
    for part in parts:
        assert f"<ChecksumCRC32>{told(part)}</ChecksumCRC32>".encode() in last.body


async def test_what_came_as_something_else_is_said(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer([refusing("BadDigest", status="400 Bad Request")]) as server:
        with pytest.raises(IntegrityError, match="not what was sent"):
            await control(server.url).put(OBJECT, SMALL)


async def test_a_refusal_names_action_and_resource(control: Callable[..., Control], signed: None) -> None:
    denied = refusing("AccessDenied", status="403 Forbidden")
    found = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"

    def answers(request: RawRequest) -> bytes:
        return found if request.method == "HEAD" else denied

    async with ScriptedServer(answers) as server:
        plane, bucket = control(server.url), s3("bucket", "")
        calls: list[tuple[Callable[[], Awaitable[object]], str]] = [
            (lambda: plane.put(OBJECT, SMALL), "s3:PutObject on arn:aws:s3:::bucket/key"),
            (lambda: plane.put(OBJECT, LARGE), "s3:PutObject on arn:aws:s3:::bucket/key"),
            (lambda: plane.delete(OBJECT), "s3:DeleteObject on arn:aws:s3:::bucket/key"),
            (lambda: plane.delete(s3("bucket", "key", "v1")), "s3:DeleteObjectVersion on arn:aws:s3:::bucket/key"),
            (lambda: plane.copy(s3("other", "a"), OBJECT), "s3:GetObject on arn:aws:s3:::other/a"),
            (lambda: plane.versioning(bucket), "s3:GetBucketVersioning on arn:aws:s3:::bucket: "),
            (lambda: plane.encryption(bucket), "s3:GetEncryptionConfiguration on arn:aws:s3:::bucket: "),
        ]
        for call, missing in calls:
            with pytest.raises(AccessDenied, match=missing):
                await call()


async def test_a_refusal_of_one_of_many_names_it(control: Callable[..., Control], signed: None) -> None:
    told = (
        b"<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        b"<Error><Key>c</Key><Code>InternalError</Code><Message>We erred.</Message></Error></DeleteResult>"
    )
    async with ScriptedServer([answer(told)]) as server:
        failed = await control(server.url).delete_many([s3("bucket", key) for key in "abc"])
    assert [str(location) for location in failed] == ["s3://bucket/b", "s3://bucket/c"]
    denied, erred = failed.values()
    assert isinstance(denied, AccessDenied)
    assert "s3:DeleteObject on arn:aws:s3:::bucket/b" in str(denied)
    assert (denied.status, denied.code, erred.code) == (None, "AccessDenied", "InternalError")


async def test_a_key_of_kms_that_may_not_be_used(control: Callable[..., Control], signed: None) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>KMS says no</Message></Error>"
    async with ScriptedServer([answer(body, status="403 Forbidden")]) as server:
        with pytest.raises(EncryptionKeyDenied, match="kms:GenerateDataKey"):
            await control(server.url).put(OBJECT, SMALL)


async def test_a_bucket_in_another_region_is_written_there(control: Callable[..., Control], signed: None) -> None:
    elsewhere = refusing("AuthorizationHeaderMalformed", status="400 Bad Request", more="<Region>eu-west-1</Region>")
    async with ScriptedServer([elsewhere, DONE, DONE]) as server:
        plane = control(server.url, region="us-east-1")
        await plane.put(OBJECT, SMALL)
        await plane.put(OBJECT, SMALL)
        scopes = [(request.header("authorization") or "").split("/")[2] for request in server.requests]
        assert scopes == ["us-east-1", "eu-west-1", "eu-west-1"]
        assert [request.body for request in server.requests] == [SMALL] * 3


async def test_a_slow_server_is_asked_again_so_often(control: Callable[..., Control], signed: None) -> None:
    slower = refusing("SlowDown", status="503 Slow Down")
    async with ScriptedServer([slower, DONE, slower, slower]) as server:
        plane = control(server.url, network=NetworkPolicy(attempts=2))
        await plane.put(OBJECT, SMALL)
        with pytest.raises(Throttled) as caught:
            await plane.put(OBJECT, SMALL)
        assert caught.value.attempts == 2
        assert len(server.requests) == 4


async def test_what_access_says_goes_with_every_write(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer(lambda request: DONE) as server:
        plane = control(server.url, requester_pays=True, customer_key=bytes(range(32)))
        await plane.put(OBJECT, SMALL)
        await plane.delete(OBJECT)
        put, delete = server.requests
        assert put.header("x-amz-request-payer") == delete.header("x-amz-request-payer") == "requester"
        assert put.header("x-amz-server-side-encryption-customer-algorithm") == "AES256"


# Broken off.


async def test_closing_ends_a_write_under_way(control: Callable[..., Control], signed: None) -> None:
    async with ScriptedServer([[Hold()]]) as server:
        plane = control(server.url)
        writing = asyncio.create_task(plane.put(OBJECT, SMALL))
        await server.until(lambda: bool(server.requests))
        await plane.aclose()
        with pytest.raises(FetcherClosed, match="s3://bucket/key"):
            await writing
        with pytest.raises(FetcherClosed):
            await plane.put(OBJECT, SMALL)
        await plane.aclose()


async def test_an_upload_that_is_left_while_it_is_begun_is_aborted(
    control: Callable[..., Control], signed: None
) -> None:
    begun = answer(b"<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>")
    go = asyncio.Event()

    def answers(request: RawRequest) -> Answer:
        return [Hold(go), begun] if request.method == "POST" else answer(status="204 No Content")

    async with ScriptedServer(answers) as server:
        plane = control(server.url)
        writing = asyncio.create_task(plane.put(OBJECT, LARGE))
        await server.until(lambda: bool(server.requests))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        go.set()
        await plane.aclose()
        assert [(seen.method, seen.target) for seen in server.requests[1:]] == [("DELETE", "/bucket/key?uploadId=U1")]


def sparing(server: Server, *, parts: int = 1) -> Control:
    """One that holds so many parts at once."""
    return Control(Settings(access=Access(endpoint_url=server.endpoint_url), memory_budget=parts * (32 << 20)))


def _parts(moto: EmbeddedS3, key: str) -> int:
    return sum(count for seen, count in moto.requests().items() if (seen.method, seen.path[-1]) == ("PUT", key))


async def sent(moto: EmbeddedS3, key: str, count: int = 1) -> None:
    """Waits until so many parts of an object have come."""
    while await asyncio.to_thread(_parts, moto, key) < count:
        await asyncio.sleep(0.01)


@needs("if_match")
async def test_an_upload_that_is_cancelled_leaves_nothing(server: Server, shelf: Shelf, moto: EmbeddedS3) -> None:
    moto.reset_counts()
    async with sparing(server) as plane:
        await plane.put(shelf.at("warm"), b"")
        before = census()
        writing = asyncio.create_task(plane.put(shelf.at("k"), bytes(64 << 20)))
        await sent(moto, "k")
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert shelf.uploads() == []
        assert shelf.keys() == ["warm"]
        assert census().tasks == before.tasks
        await plane.put(shelf.at("k"), bytes(9 << 20))  # its slots came back
        assert len(shelf.body("k")) == 9 << 20


@needs("if_match")
async def test_a_plane_that_closes_aborts_its_uploads(server: Server, shelf: Shelf, moto: EmbeddedS3) -> None:
    moto.reset_counts()
    plane = sparing(server)
    writing = asyncio.create_task(plane.put(shelf.at("k"), bytes(64 << 20)))
    await sent(moto, "k")
    await plane.aclose()
    with pytest.raises(FetcherClosed):
        await writing
    assert shelf.uploads() == []


@needs("if_match")
async def test_a_file_that_changes_meanwhile_is_not_written(
    server: Server, shelf: Shelf, moto: EmbeddedS3, tmp_path: Path
) -> None:
    moto.reset_counts()
    path = tmp_path / "k"
    path.write_bytes(bytes(64 << 20))
    async with sparing(server) as plane:
        writing = asyncio.create_task(plane.put(shelf.at("k"), path))
        await sent(moto, "k")
        os.truncate(path, 12 << 20)
        with pytest.raises(UsageError, match="was written to while it was being sent"):
            await writing
        assert shelf.uploads() == []
        assert shelf.keys() == []
        # The same where all was read, and other bytes lie there by then.
        path.write_bytes(bytes(17 << 20))
        writing = asyncio.create_task(plane.put(shelf.at("l"), path))
        await sent(moto, "l")
        os.utime(path, ns=(1, 1))
        with pytest.raises(UsageError, match="was written to while it was being sent"):
            await writing
        assert shelf.uploads() == []


@needs("if_match")
async def test_uploads_at_once_hold_no_more_than_their_share(server: Server, shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(20 << 20))
    async with sparing(server, parts=2) as plane:
        keys = [str(number) for number in range(4)]
        await asyncio.gather(*[plane.put(shelf.at(key), tmp_path / "file") for key in keys])
    assert {shelf.body(key) for key in keys} == {(tmp_path / "file").read_bytes()}
