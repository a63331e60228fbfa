"""The checksums that S3 keeps of objects: which of them an answer tells, and how bytes are held against it.

What a whole object's answer tells is of all its bytes; what a range's tells depends on the server and on how the object
was uploaded (AWS: "Checking object integrity in Amazon S3"), so nothing is made of that. Composite checksums, of
multipart uploads (`…-3`, with `x-amz-checksum-type: COMPOSITE`), are of the checksums of parts, one after another. How
large these were is told by the head of a part (AWS: API_HeadObject, "partNumber").
"""

from __future__ import annotations

import binascii
import hashlib
import logging
import re
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncfetch.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# Asks a GET to tell what is kept (AWS: API_GetObject).
CHECKSUM_MODE = ("x-amz-checksum-mode", "ENABLED")

_MD5 = re.compile(r"[0-9a-f]{32}")
_COUNT = re.compile(r"[1-9][0-9]{0,4}")  # of parts: 10,000 at most


def told_checksum(
    header: Callable[[str], str | None], etag: str | None, *, checksums: bool = True, md5: bool = False
) -> str | None:
    """The checksum that the answer with a whole object tells, `"crc32:<hex>"`, if this process can compute it, or None.

    `header` gives headers by their names in lower case. The cheapest is chosen. With `md5`, an ETag that is the MD5 of
    the bytes stands in where there is none: one without SSE-KMS and SSE-C, and not of a multipart upload (AWS:
    API_Object, "ETag").
    """
    composite = (header("x-amz-checksum-type") or "").upper() == "COMPOSITE"
    for name, size in _sizes().items() if checksums and not composite else ():
        value = header(f"x-amz-checksum-{name}")
        if value is not None:
            try:
                digest = binascii.a2b_base64(value, strict_mode=True)
            except ValueError:  # composite from a server that does not say so otherwise, or none at all
                continue
            if len(digest) == size:
                return f"{name}:{digest.hex()}"
    if md5 and etag is not None and _MD5.fullmatch(etag):
        plain = header("x-amz-server-side-encryption") in (None, "AES256")
        if plain and header("x-amz-server-side-encryption-customer-algorithm") is None:
            return f"md5:{etag}"
    return None


class Composite(NamedTuple):
    """A checksum of the checksums of an object's parts, of which there are so many."""

    name: str
    digest: str
    parts: int
    size: int  # of the object
    etag: str

    def laid_out(self, first: int, last: int) -> str | None:
        """As `ObjectStat.checksum` has it, `"crc32:<hex>/<bytes of a part>"`, of the sizes of the first and last part.

        None where not all parts but the last, which may be shorter, are of one size. No uploader known to us makes
        others, and to follow these took a request for each.
        """
        if not 0 < last <= first or first * (self.parts - 1) + last != self.size:
            return None
        return f"{self.name}:{self.digest}/{first}"


def told_composite(header: Callable[[str], str | None], size: int | None, etag: str | None) -> Composite | None:
    """The composite checksum that the answer with a whole object tells, if this process can compute it, or None."""
    if header("x-amz-checksum-type") != "COMPOSITE" or not size or etag is None:
        return None
    for name, length in _sizes().items():
        value, _, parts = (header(f"x-amz-checksum-{name}") or "").partition("-")
        if _COUNT.fullmatch(parts):
            try:
                digest = binascii.a2b_base64(value, strict_mode=True)
            except ValueError:
                continue
            if len(digest) == length:
                return Composite(name, digest.hex(), int(parts), size, etag)
    return None


def load_checksums() -> None:
    """Imports what computing them takes, 30 ms for awscrt. To be called in a thread; nothing breaks without it."""
    _sizes()


class Check:
    """Bytes on their way, and what the origin says of them. One thread at a time."""

    __slots__ = ("_hasher", "_told", "_uri")

    def __init__(self, uri: str, told: str) -> None:
        """`told` is as `told_checksum` or `Composite.laid_out` gives it."""
        self._uri = uri
        self._told, _, part_size = told.partition("/")
        name = self._told.partition(":")[0]
        self._hasher = _Parted(name, int(part_size)) if part_size else _new(name)

    def update(self, data: memoryview) -> None:
        """Takes the next bytes."""
        self._hasher.update(data)

    def verify(self) -> None:
        """Raises `IntegrityError` where all bytes so far are not what the origin says."""
        name, _, digest = self._told.partition(":")
        found = self._hasher.digest().hex()
        if found != digest:
            raise IntegrityError(self._uri, f"what came is not what is stored: its {name} is {found}, not {digest}")


class _Hasher(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _CRC:
    """A cyclic redundancy check with the face of hashlib."""

    __slots__ = ("_compute", "_size", "_value")

    def __init__(self, compute: Callable[[memoryview, int], int], size: int) -> None:
        self._compute = compute
        self._size = size
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._compute(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size)


class _Parted:
    """The checksum of the checksums of parts that have so many bytes, but for the last."""

    __slots__ = ("_digests", "_left", "_name", "_part", "_part_size")

    def __init__(self, name: str, part_size: int) -> None:
        self._name = name
        self._part_size = self._left = part_size
        self._part = _new(name)
        self._digests = b""  # 32 bytes a part, and 10,000 parts at most

    def update(self, data: memoryview, /) -> None:
        while len(data) > self._left:
            self._part.update(data[: self._left])
            data = data[self._left :]
            self._digests += self._part.digest()
            self._part, self._left = _new(self._name), self._part_size
        self._part.update(data)
        self._left -= len(data)

    def digest(self) -> bytes:
        outer = _new(self._name)
        outer.update(memoryview(self._digests + self._part.digest()))
        return outer.digest()


def _new(name: str) -> _Hasher:
    if name.startswith("crc"):
        return _CRC(_crcs()[name], _sizes()[name])
    return hashlib.new(name, usedforsecurity=False)


@cache
def _crcs() -> dict[str, Callable[[memoryview, int], int]]:
    """Those that this process can compute. The extra `checksums` brings awscrt, which has the newer two in hardware."""
    try:
        from awscrt import checksums
    except ImportError:
        logger.info("crc32c and crc64nvme are not checked without awscrt: pip install 'asyncfetch[checksums]'")
        return {"crc32": zlib.crc32}
    return {"crc64nvme": checksums.crc64nvme, "crc32c": checksums.crc32c, "crc32": zlib.crc32}


@cache
def _sizes() -> dict[str, int]:
    """Bytes of each checksum that can be computed here, the cheapest first.

    Of 86 KB: crc64nvme and crc32c 2 us, crc32 12, sha256 and sha1 42 with instructions for them, md5 103.
    """
    sizes = {"crc64nvme": 8, "crc32c": 4, "crc32": 4}
    return {name: size for name, size in sizes.items() if name in _crcs()} | {"sha256": 32, "sha1": 20}
