"""The objects of a server that is S3 as far as reading goes: GET, HEAD and ListObjectsV2, and nothing goes wrong."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable

Checksum = Literal["crc32", "sha1", "sha256"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PAGE = 1000  # keys, at most; API_ListObjectsV2, max-keys
_INVERTED = bytes(range(255, -1, -1))
_SINCE = 1_700_000_000  # when the first version of every object was stored


class Reply(NamedTuple):
    """An answer before it is written: `body` is empty where a HEAD or an error has none."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    length: int = 0  # to be announced

    @property
    def has_object(self) -> bool:
        """Whether its body is an object's, or a range of one."""
        return self.status in (200, 206) and any(name == "ETag" for name, _ in self.headers)


class _Facts(NamedTuple):
    etag: str
    checksum: str | None
    parts: int  # 0 where it was uploaded in one piece


@dataclass(frozen=True, slots=True)
class Generated(Mapping[str, bytes]):
    """Objects that are made when they are asked for: `count` of `size` bytes, noise, the same for the same `seed`."""

    count: int
    size: int
    seed: int = 0

    def __getitem__(self, key: str) -> bytes:
        if not (len(key) == 8 and key.isdecimal() and int(key) < self.count):
            raise KeyError(key)
        return random.Random(f"{self.seed}/{key}").randbytes(self.size)  # noqa: S311

    def __iter__(self) -> Iterator[str]:
        return (f"{number:08d}" for number in range(self.count))

    def __len__(self) -> int:
        return self.count


class Shelf:
    """One bucket. Belongs to one thread."""

    def __init__(
        self, objects: Mapping[str, bytes], *, bucket: str, checksum: Checksum | None, part_size: int | None = None
    ) -> None:
        self._bucket = bucket
        self._objects = objects
        self._checksum = checksum
        self._part_size = part_size
        self._generations: dict[str, int] = {}  # how often each was replaced
        self._facts: dict[tuple[str, int], _Facts] = {}
        self._keys = sorted(objects, key=_utf8)
        self._sorted = [_utf8(key) for key in self._keys]

    def key_of(self, target: str) -> str | None:
        """The key that a request's target names, `""` for the bucket itself, None for another bucket."""
        bucket, _, key = target.partition("?")[0][1:].partition("/")
        return unquote(key) if unquote(bucket) == self._bucket else None

    def body(self, key: str) -> bytes:
        """An object as it is now. Raises `KeyError`."""
        body = self._objects[key]
        return body.translate(_INVERTED) if self._generations.get(key, 0) % 2 else body

    def versions(self, key: str) -> tuple[bytes, ...]:
        """What an object has been so far, one after another. Raises `KeyError`."""
        body = self._objects[key]
        return (body, body.translate(_INVERTED)) if key in self._generations else (body,)

    def replace(self, key: str) -> None:
        """Stores another object of the same size in its place: every bit of it is the other."""
        if key in self._objects:
            self._generations[key] = self._generations.get(key, 0) + 1

    def reply(self, method: str, target: str, headers: Mapping[str, str]) -> Reply:
        """Answers a request."""
        key = self.key_of(target)
        if method not in ("GET", "HEAD"):
            return refusal(405, "MethodNotAllowed")
        if key is None:
            reply = refusal(404, "NoSuchBucket")
        elif key:
            reply = self._object(key, headers, _query(target))
        else:
            reply = self._page(_query(target))
        return reply._replace(body=b"") if method == "HEAD" else reply

    def _object(self, key: str, headers: Mapping[str, str], query: Mapping[str, str]) -> Reply:
        try:
            body = self.body(key)
        except KeyError:
            return refusal(404, "NoSuchKey")
        facts = self._facts_of(key, body)
        quoted = f'"{facts.etag}"'
        if headers.get("if-match", quoted) not in (quoted, "*"):
            return refusal(412, "PreconditionFailed")
        told = [
            ("ETag", quoted),
            ("Last-Modified", formatdate(_SINCE + self._generations.get(key, 0), usegmt=True)),
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "binary/octet-stream"),
        ]
        if headers.get("if-none-match") in (quoted, "*"):
            return Reply(304, tuple(told))
        size = len(body)
        span = _span(headers.get("range"), size)
        if "partNumber" in query:
            step, number = self._part_size or size, int(query["partNumber"])
            span = (number - 1) * step, min(number * step, size)
            if facts.parts:
                told.append(("x-amz-mp-parts-count", str(facts.parts)))
        if span is None:
            if facts.checksum and headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
                kind = "COMPOSITE" if facts.parts else "FULL_OBJECT"
                told += [(f"x-amz-checksum-{self._checksum}", facts.checksum), ("x-amz-checksum-type", kind)]
            return Reply(200, tuple(told), body, size)
        start, stop = span
        if start >= stop:
            return refusal(416, "InvalidRange")
        told.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        return Reply(206, tuple(told), body[start:stop], stop - start)

    def _facts_of(self, key: str, body: bytes) -> _Facts:
        which = key, self._generations.get(key, 0) % 2
        if (facts := self._facts.get(which)) is None:
            step = self._part_size
            pieces = [body[at : at + step] for at in range(0, len(body), step)] if step and len(body) > step else []
            parts = f"-{len(pieces)}" if pieces else ""
            checksum = None
            if self._checksum is not None:
                checksum = base64.b64encode(_of_parts(_CHECKSUMS[self._checksum], body, pieces)).decode() + parts
            facts = self._facts[which] = _Facts(_of_parts(_md5, body, pieces).hex() + parts, checksum, len(pieces))
        return facts

    def _page(self, query: Mapping[str, str]) -> Reply:
        """API_ListObjectsV2. The token is the key after which the next page begins."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = bytes.fromhex(query["continuation-token"]) if "continuation-token" in query else None
        at = bisect_left(self._sorted, _utf8(prefix))
        at = max(at, bisect_right(self._sorted, after if after is not None else _utf8(query.get("start-after", ""))))
        most = min(int(query.get("max-keys", _PAGE)), _PAGE)
        write: Callable[[str], str] = (
            quote if query.get("encoding-type") == "url" else escape  # S3's own way for keys that XML cannot hold
        )
        entries: list[str] = []
        last = b""
        while at < len(self._keys) and self._keys[at].startswith(prefix) and len(entries) < most:
            key = self._keys[at]
            inner, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                common = prefix + inner + found
                entries.append(f"<CommonPrefixes><Prefix>{write(common)}</Prefix></CommonPrefixes>")
                while at < len(self._keys) and self._keys[at].startswith(common):
                    at += 1
                last = self._sorted[at - 1]
            else:
                entries.append(self._entry(key, write))
                last = self._sorted[at]
                at += 1
        more = at < len(self._keys) and self._keys[at].startswith(prefix)
        token = f"<NextContinuationToken>{last.hex()}</NextContinuationToken>" if more else ""
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        entries.sort(key=lambda entry: entry.startswith("<CommonPrefixes"))  # as S3 has them: behind the objects
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{self._bucket}</Name>'
            f"<Prefix>{write(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>{most}</MaxKeys>{encoding}"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}</ListBucketResult>"
        ).encode()
        return Reply(200, (("Content-Type", "application/xml"),), body, len(body))

    def _entry(self, key: str, write: Callable[[str], str]) -> str:
        body = self.body(key)
        when = "2023-11-14T22:13:20.000Z"
        return (
            f"<Contents><Key>{write(key)}</Key><LastModified>{when}</LastModified>"
            f"<ETag>&quot;{self._facts_of(key, body).etag}&quot;</ETag><Size>{len(body)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


def refusal(status: int, code: str, *, more: str = "") -> Reply:
    """An error document, as S3 writes it."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}.</Message>'
        f"{more}<RequestId>FAULTSERVER</RequestId></Error>"
    ).encode()
    return Reply(status, (("Content-Type", "application/xml"),), body, len(body))


def _query(target: str) -> dict[str, str]:
    return dict(parse_qsl(target.partition("?")[2], keep_blank_values=True))


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _of_parts(compute: Callable[[bytes], bytes], body: bytes, pieces: list[bytes]) -> bytes:
    """The checksum of a body, or that of the checksums of its pieces where there are any."""
    return compute(b"".join(map(compute, pieces)) if pieces else body)


def _span(value: str | None, size: int) -> tuple[int, int] | None:
    """The bytes that a Range header means, None where it means all; the first behind the last where there are none."""
    found = _RANGE.fullmatch(value or "")
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start = int(found[1])
    return start, min(int(found[2]) + 1, size) if found[2] else size


def _utf8(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


_CHECKSUMS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "crc32": lambda body: zlib.crc32(body).to_bytes(4),
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}
