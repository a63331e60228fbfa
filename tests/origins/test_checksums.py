"""Which checksum an answer tells, and what it says of bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from typing import TYPE_CHECKING

import pytest
from boto3.s3.transfer import TransferConfig
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import IntegrityError
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import ByteRange, check_of
from asyncfetch.origins.checksums import Check, Composite, told_checksum, told_composite
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from tests.origins.test_introductions import Informed, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.testing.scripted import Answer
    from tests.objects import Bucket

BODY = b"123456789"
# What the CRC catalogue (reveng.sourceforge.io/crc-catalogue) calls the check of each, and what hashlib says.
KNOWN = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": hashlib.sha1(BODY).hexdigest(),
    "sha256": hashlib.sha256(BODY).hexdigest(),
}
MD5 = hashlib.md5(BODY).hexdigest()


def header(name: str) -> str:
    return base64.b64encode(bytes.fromhex(KNOWN[name])).decode()


def told(
    headers: Mapping[str, str], etag: str | None = None, *, checksums: bool = True, md5: bool = True
) -> str | None:
    return told_checksum(headers.get, etag, checksums=checksums, md5=md5)


@pytest.mark.parametrize("name", KNOWN)
def test_each_checksum_is_told_and_computed(name: str) -> None:
    found = told({f"x-amz-checksum-{name}": header(name)})
    assert found == f"{name}:{KNOWN[name]}"
    check = Check("s3://b/k", found)
    for byte in BODY:
        check.update(memoryview(bytes([byte])))
    check.verify()
    check.update(memoryview(b"0"))
    with pytest.raises(IntegrityError, match=f"s3://b/k: .*its {name} is") as caught:
        check.verify()
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("headers", "etag", "expected"),
    [
        ({}, None, None),
        ({f"x-amz-checksum-{name}": header(name) for name in KNOWN}, MD5, f"crc64nvme:{KNOWN['crc64nvme']}"),
        ({"x-amz-checksum-crc32": "AAAAAA==-3"}, None, None),
        ({"x-amz-checksum-crc32": "AAAAAA==-3", "x-amz-checksum-sha1": header("sha1")}, None, f"sha1:{KNOWN['sha1']}"),
        # A full checksum of a multipart upload is one like any other; a composite one is not, whatever it looks like.
        ({"x-amz-checksum-crc32": header("crc32"), "x-amz-checksum-type": "COMPOSITE"}, None, None),
        (
            {"x-amz-checksum-crc32": header("crc32"), "x-amz-checksum-type": "FULL_OBJECT"},
            f"{MD5}-3",
            f"crc32:{KNOWN['crc32']}",
        ),
        ({"x-amz-checksum-crc32": header("sha1")}, None, None),
        ({"x-amz-checksum-crc32": "no base64"}, None, None),
        ({"x-amz-checksum-crc32": ""}, None, None),
        ({"x-amz-checksum-md4": "AAAAAA=="}, None, None),
        ({}, MD5, f"md5:{MD5}"),
        ({"x-amz-server-side-encryption": "AES256"}, MD5, f"md5:{MD5}"),
        ({"x-amz-server-side-encryption": "aws:kms"}, MD5, None),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, MD5, None),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, MD5, None),
        ({}, f"{MD5}-2", None),
        ({}, f"W/{MD5}", None),
        ({}, MD5.upper(), None),
        ({}, "1f-2e", None),
    ],
)
def test_only_what_is_of_all_bytes_is_told(headers: Mapping[str, str], etag: str | None, expected: str | None) -> None:
    assert told(headers, etag) == expected


def test_what_was_not_asked_for_is_not_told() -> None:
    headers = {"x-amz-checksum-crc32": header("crc32")}
    assert told(headers, MD5, checksums=False) == f"md5:{MD5}"
    assert told({}, MD5, md5=False) is None
    assert check_of(ObjectStat("s3://b/k", 9)) is None


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    for told in (f"crc32:{zlib.crc32(whole):08x}", f"sha256:{hashlib.sha256(whole).hexdigest()}"):
        check = Check("s3://b/k", told)
        for piece in pieces:
            check.update(memoryview(piece))
        check.verify()


@pytest.mark.parametrize("kind", ["s3", "boto"])
@pytest.mark.parametrize("asked", [True, False])
async def test_a_checksum_is_asked_for_and_passed_on_only_where_it_is_wanted(kind: str, asked: bool) -> None:
    headers = ["x-amz-checksum-crc32: " + header("crc32"), f'ETag: "{MD5}"']

    def reply(request: RawRequest) -> Answer:
        if request.header("range"):
            return answer(BODY[:3], status="206 Part", headers=["Content-Range: bytes 0-2/9", *headers])
        return answer(BODY, headers=headers)

    async with ScriptedServer(reply) as server:
        origin, location = origin_of(kind, server, NetworkPolicy(checksums=asked))
        whole, part = Informed(), Informed()
        await origin.read(location, whole)
        await origin.read(location, part, range=ByteRange(0, 3))
        await origin.aclose()
        assert [request.header("x-amz-checksum-mode") for request in server.requests] == [
            "ENABLED" if asked else None,
            None,
        ]
    assert whole.told[0][0].checksum == (f"crc32:{KNOWN['crc32']}" if asked else None)
    assert part.told[0][0].checksum is None


# Composite ones.

_OF_CRC32 = {"x-amz-checksum-crc32": f"{header('crc32')}-3", "x-amz-checksum-type": "COMPOSITE"}
_FOUND = Composite("crc32", KNOWN["crc32"], parts=3, size=9, etag="e-3")


@pytest.mark.parametrize(
    ("headers", "size", "etag", "expected"),
    [
        (_OF_CRC32, 9, "e-3", _FOUND),
        ({**_OF_CRC32, "x-amz-checksum-crc32": f"{header('crc32')}-10000"}, 9, "e-3", _FOUND._replace(parts=10_000)),
        ({**_OF_CRC32, "x-amz-checksum-type": "FULL_OBJECT"}, 9, "e-3", None),
        ({**_OF_CRC32, "x-amz-checksum-crc32": header("crc32")}, 9, "e-3", None),
        ({**_OF_CRC32, "x-amz-checksum-crc32": f"{header('crc32')}-0"}, 9, "e-3", None),
        ({**_OF_CRC32, "x-amz-checksum-crc32": f"{header('crc32')}-1000000"}, 9, "e-3", None),
        ({**_OF_CRC32, "x-amz-checksum-crc32": f"{header('sha1')}-3"}, 9, "e-3", None),
        ({**_OF_CRC32, "x-amz-checksum-crc32": "no base64-3"}, 9, "e-3", None),
        ({"x-amz-checksum-md4": "AAAAAA==-3", "x-amz-checksum-type": "COMPOSITE"}, 9, "e-3", None),
        (_OF_CRC32, None, "e-3", None),
        (_OF_CRC32, 0, "e-3", None),
        (_OF_CRC32, 9, None, None),
        ({}, 9, "e-3", None),
    ],
)
def test_a_composite_checksum_is_told_with_the_number_of_its_parts(
    headers: Mapping[str, str], size: int | None, etag: str | None, expected: Composite | None
) -> None:
    assert told_composite(headers.get, size, etag) == expected


@pytest.mark.parametrize(
    ("first", "last", "fits"),
    [(3, 3, True), (4, 1, True), (4, 2, False), (3, 2, False), (2, 5, False), (5, -1, False), (0, 9, False)],
)
def test_parts_are_of_one_size_but_for_the_last(first: int, last: int, fits: bool) -> None:
    assert _FOUND.laid_out(first, last) == (f"crc32:{KNOWN['crc32']}/{first}" if fits else None)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 60), st.integers(1, 70))
def test_a_composite_checksum_is_of_the_checksums_of_parts(body: bytes, part_size: int, piece: int) -> None:
    parts = [body[at : at + part_size] for at in range(0, len(body), part_size)]
    composed = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    told = Composite("sha256", composed, len(parts), len(body), "e").laid_out(min(part_size, len(body)), len(parts[-1]))
    assert told is not None
    check = Check("s3://b/k", told)
    for at in range(0, len(body), piece):
        check.update(memoryview(body)[at : at + piece])
    check.verify()
    check.update(memoryview(b"0"))
    with pytest.raises(IntegrityError, match="its sha256 is"):
        check.verify()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
async def test_it_is_what_a_server_makes_of_an_upload_in_parts(empty_bucket: Bucket, algorithm: str) -> None:
    body = bytes(range(256)) * 24_000  # more than one part of 5 MiB, the least that S3 takes
    client, where = empty_bucket.client, {"Bucket": empty_bucket.name, "Key": "parts"}
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, use_threads=False)
    told = {"ChecksumAlgorithm": algorithm}
    client.upload_fileobj(io.BytesIO(body), *where.values(), ExtraArgs=told, Config=config)
    headers = client.get_object(**where, ChecksumMode="ENABLED")["ResponseMetadata"]["HTTPHeaders"]
    composite = told_composite(headers.get, len(body), headers["etag"])
    assert composite is not None
    assert (composite.name, composite.parts) == (algorithm.lower(), 2)
    laid_out = composite.laid_out(5 << 20, len(body) - (5 << 20))
    assert laid_out is not None
    check = Check("s3://b/k", laid_out)
    check.update(memoryview(body))
    check.verify()
