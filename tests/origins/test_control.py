"""The control plane: what it writes, copies and deletes is there, byte for byte, on each server that runs here."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.errors import BucketNotFound, InvalidCredentials, InvalidURI, NoCredentials, ObjectNotFound, UsageError
from asyncfetch.origins.control import Control, Identity
from asyncfetch.settings import Access, Settings
from asyncfetch.uris import Location, s3
from tests.origins.shelf import Shelf
from tests.servers import Server, needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.testing import EmbeddedS3


@needs()
async def test_bytes_are_written_whole(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane = control(server.endpoint_url)
    small = await plane.put(shelf.at("a/small.jpg"), b"small", metadata={"made-of": "cat"})
    assert shelf.body("a/small.jpg") == b"small"
    assert (small.uri, small.size) == (str(shelf.at("a/small.jpg")), 5)
    assert small.etag == shelf.client.head_object(Bucket=shelf.name, Key="a/small.jpg")["ETag"].strip('"')
    assert small.checksum == f"crc32:{zlib.crc32(b'small'):08x}"
    head = await plane.head(shelf.at("a/small.jpg"))
    assert head.content_type == "image/jpeg"
    assert head.metadata["made-of"] == "cat"
    assert (head.stat.size, head.stat.etag) == (5, small.etag)


@needs()
@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 8 << 20, (8 << 20) + 1, 21_000_003])
async def test_any_size(control: Callable[..., Control], server: Server, shelf: Shelf, size: int) -> None:
    body = os.urandom(size)
    stat = await control(server.endpoint_url).put(shelf.at("k"), body)
    assert shelf.body("k") == body
    assert (stat.size, stat.checksum) == (size, f"crc32:{zlib.crc32(body):08x}")
    assert shelf.uploads() == []


@needs()
async def test_what_is_written_from(
    control: Callable[..., Control], server: Server, shelf: Shelf, tmp_path: Path
) -> None:
    plane, body = control(server.endpoint_url), os.urandom(9 << 20)
    buffers: dict[str, Any] = {
        "bytearray": bytearray(body),
        "view": memoryview(body).cast("Q"),
        "small-view": memoryview(body)[5:11],
    }
    for key, given in buffers.items():
        await plane.put(shelf.at(key), given)
        assert shelf.body(key) == bytes(given)
    for key, size in {"large": 9 << 20, "small": 10, "empty": 0}.items():
        (tmp_path / key).write_bytes(body[:size])
        await plane.put(shelf.at(key), tmp_path / key)
        assert shelf.body(key) == body[:size]


@pytest.mark.parametrize(
    ("body", "why"), [("text", "not str"), (memoryview(b"abcdef")[::2], "contiguous"), (None, "not NoneType")]
)
async def test_what_cannot_be_written(control: Callable[..., Control], body: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        await control().put(s3("bucket", "key"), body)


async def test_files_that_cannot_be_written(control: Callable[..., Control], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await control().put(s3("bucket", "key"), tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="no file that can be sent"):
            await control().put(s3("bucket", "key"), path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"metadata": {"label": "Katze\n"}}, "'label' is not printable ASCII"),
        ({"metadata": {"label": "Kätzchen"}}, "'label' is not printable ASCII"),
        ({"metadata": {"label": "x" * 2048}}, "2053 bytes"),
        ({"metadata": {"label": 5}}, "'label' is not printable ASCII"),
        ({"extra_args": {"Body": b"other"}}, "Body cannot be among extra_args"),
        ({"extra_args": {"ChecksumCRC32": "AAAAAA=="}}, "ChecksumCRC32 cannot be among extra_args"),
        ({"extra_args": {"Serverside": "AES256"}}, 'Unknown parameter in input: "Serverside"'),
        ({"if_none_match": "etag"}, "no condition of a write"),
        ({"if_none_match": "*", "if_match": "etag"}, "no condition of a write"),
        ({"checksum": "md5:00"}, "no checksum that S3 keeps"),
        ({"checksum": "sha256:xyz"}, "not written in hexadecimal"),
    ],
)
async def test_options_that_mean_nothing(
    control: Callable[..., Control], signed: None, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        await control("http://127.0.0.1:9").put(s3("bucket", "key"), b"", **options)


async def test_a_parameter_that_is_refused_is_named_without_its_value(
    control: Callable[..., Control], signed: None
) -> None:
    with pytest.raises(UsageError, match="SSEKMSKeyId") as caught:
        await control("http://127.0.0.1:9").put(s3("bucket", "key"), b"", extra_args={"SSEKMSKeyId": 421_337})
    assert "421337" not in str(caught.value)


@pytest.mark.parametrize("location", [s3("bucket", ""), s3("bucket", "key", "version"), Location("file", "", "/a")])
async def test_places_that_nothing_is_written_to(control: Callable[..., Control], location: Location) -> None:
    with pytest.raises(InvalidURI):
        await control().put(location, b"")


@needs()
async def test_no_such_bucket(control: Callable[..., Control], server: Server) -> None:
    plane = control(server.endpoint_url)
    for size in (1, 9 << 20):
        with pytest.raises(BucketNotFound, match="s3://no-such-bucket-there/k"):
            await plane.put(s3("no-such-bucket-there", "k"), bytes(size))


@needs("checks_signatures")
async def test_a_wrong_secret_is_refused(
    control: Callable[..., Control], server: Server, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(InvalidCredentials, match="signature does not match"):
        await control(server.endpoint_url).put(shelf.at("k"), b"")


# Copies.


@needs()
async def test_an_object_is_copied_with_what_is_said_of_it(
    control: Callable[..., Control], server: Server, shelf: Shelf
) -> None:
    plane = control(server.endpoint_url)
    await plane.put(shelf.at("a b+c/ä.bin"), b"body", content_type="image/webp", metadata={"label": "cat"})
    stat = await plane.copy(shelf.at("a b+c/ä.bin"), shelf.at("b"))
    assert (stat.uri, stat.size) == (str(shelf.at("b")), 4)
    assert shelf.body("b") == b"body"
    head = await plane.head(shelf.at("b"))
    assert head.metadata["label"] == "cat"
    assert stat.etag == head.stat.etag


@needs("if_match")
async def test_a_copy_may_be_said_other_things_of(
    control: Callable[..., Control], server: Server, shelf: Shelf
) -> None:
    plane = control(server.endpoint_url)
    await plane.put(
        shelf.at("a"), b"body", content_type="image/webp", metadata={"x": "1"}, extra_args={"CacheControl": "no-cache"}
    )
    await plane.copy(shelf.at("a"), shelf.at("b"), metadata={"y": "2"})
    found = shelf.client.head_object(Bucket=shelf.name, Key="b")
    assert (found["Metadata"], found["ContentType"], found["CacheControl"]) == ({"y": "2"}, "image/webp", "no-cache")


@needs("if_match")
async def test_a_copy_in_parts(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane, body = control(server.endpoint_url), os.urandom(12 << 20)
    await plane.put(shelf.at("a"), body, content_type="image/webp", metadata={"label": "cat"})
    stat = await plane.copy(shelf.at("a"), shelf.at("b"), parts_from=1)
    assert shelf.body("b") == body
    head = await plane.head(shelf.at("b"))
    assert (head.content_type, dict(head.metadata), head.stat.etag) == ("image/webp", {"label": "cat"}, stat.etag)
    assert shelf.uploads() == []


@needs("versions")
async def test_a_version_is_copied(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane = control(server.endpoint_url)
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    first = await plane.put(shelf.at("a"), b"first")
    await plane.put(shelf.at("a"), b"second")
    await plane.copy(s3(shelf.name, "a", first.version), shelf.at("b"))
    assert shelf.body("b") == b"first"


@needs()
async def test_nothing_to_copy(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    with pytest.raises(ObjectNotFound, match="/missing"):
        await control(server.endpoint_url).copy(shelf.at("missing"), shelf.at("b"))


# Deletions.


@needs()
async def test_an_object_is_deleted_once_and_again(
    control: Callable[..., Control], server: Server, shelf: Shelf
) -> None:
    plane = control(server.endpoint_url)
    await plane.put(shelf.at("a"), b"")
    await plane.put(shelf.at("b"), b"")
    await plane.delete(shelf.at("a"))
    await plane.delete(shelf.at("a"))
    assert shelf.keys() == ["b"]


@needs()
async def test_many_are_deleted(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane = control(server.endpoint_url)
    for key in ("a", "b c", "d&<e>", "ü", "kept"):
        await plane.put(shelf.at(key), b"")
    wanted = [shelf.at(key) for key in ("a", "b c", "d&<e>", "ü", "never-there", "a")]
    assert await plane.delete_many(wanted) == {}
    assert shelf.keys() == ["kept"]
    assert await plane.delete_many([]) == {}


@needs("controls", "odd_keys")
async def test_keys_that_no_document_can_name_are_deleted_too(
    control: Callable[..., Control], server: Server, shelf: Shelf
) -> None:
    plane = control(server.endpoint_url)
    for key in ("a\x01b", "plain"):
        await plane.put(shelf.at(key), b"")
    assert await plane.delete_many([shelf.at("a\x01b"), shelf.at("plain")]) == {}
    assert shelf.client.list_objects_v2(Bucket=shelf.name)["KeyCount"] == 0


@needs("versions")
async def test_versions_are_deleted_one_by_one(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane = control(server.endpoint_url)
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    stats = [await plane.put(shelf.at("a"), bytes([number])) for number in range(3)]
    await plane.delete(s3(shelf.name, "a", stats[2].version))
    assert shelf.body("a") == b"\1"
    assert await plane.delete_many([s3(shelf.name, "a", stats[1].version)]) == {}
    assert shelf.body("a") == b"\0"


@needs("if_match")
async def test_more_than_a_request_can_name(
    control: Callable[..., Control], server: Server, shelf: Shelf, moto: EmbeddedS3
) -> None:
    plane = control(server.endpoint_url)
    moto.reset_counts()
    assert await plane.delete_many([shelf.at(f"{number}") for number in range(2_001)]) == {}
    posts = sum(count for seen, count in moto.requests().items() if seen.method == "POST" and shelf.name in seen.path)
    assert posts == 3


@needs()
async def test_a_batch_that_is_refused_fails_each_of_its_objects(
    control: Callable[..., Control], server: Server
) -> None:
    gone = [s3("no-such-bucket-there", key) for key in ("a", "b")]
    failed = await control(server.endpoint_url).delete_many(gone)
    assert [(at, type(error), error.uri) for at, error in failed.items()] == [
        (at, BucketNotFound, str(at)) for at in gone
    ]


# Of buckets, and who asks.


@needs("versions")
async def test_what_a_bucket_is(control: Callable[..., Control], server: Server, shelf: Shelf) -> None:
    plane, anywhere = control(server.endpoint_url), shelf.at("any/where")
    assert await plane.region(anywhere) == "us-east-1"
    assert await plane.versioning(anywhere) is None
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    assert await plane.versioning(anywhere) == "Enabled"
    assert await plane.encryption(anywhere) is None
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:aws:kms:x:1:key/k"}
    }
    shelf.client.put_bucket_encryption(Bucket=shelf.name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert await plane.encryption(anywhere) == ("aws:kms", "arn:aws:kms:x:1:key/k")


@needs("versions")
async def test_who_asks(control: Callable[..., Control], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint_url)
    found = await control(server.endpoint_url).identity(s3("bucket", ""))
    assert isinstance(found, Identity)
    assert found.account == "123456789012"
    assert found.arn.startswith("arn:aws:sts::123456789012:")


async def test_aws_is_not_told_who_signs_elsewhere(control: Callable[..., Control], signed: None) -> None:
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_STS"):
        await control("http://127.0.0.1:9").identity(s3("bucket", ""))


async def test_nobody_asks(control: Callable[..., Control]) -> None:
    with pytest.raises(NoCredentials, match="anonymous"):
        await control("http://127.0.0.1:9", anonymous=True).identity(s3("bucket", ""))


@needs()
async def test_each_bucket_has_its_own_access(server: Server, shelf: Shelf) -> None:
    settings = Settings(
        access=Access(endpoint_url="http://127.0.0.1:9"),
        buckets={shelf.name: Access(endpoint_url=server.endpoint_url)},
    )
    async with Control(settings) as plane:
        await plane.put(shelf.at("a"), b"here")
    assert shelf.body("a") == b"here"
