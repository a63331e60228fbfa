"""Which checksum an answer tells, and what it says of bytes."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import IntegrityError
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import ByteRange, check_of
from asyncfetch.origins.checksums import Check, told_checksum
from asyncfetch.settings import NetworkPolicy
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from tests.origins.test_introductions import Informed, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.testing.scripted import Answer

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
