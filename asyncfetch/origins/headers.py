"""The HTTP headers that origins read and write alike: ranges, ETags, dates, and how long to wait (RFC 9110)."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import RangeNotSatisfiable, UsageError
from asyncfetch.version import __version__

if TYPE_CHECKING:
    from asyncfetch.origins.base import ByteRange

USER_AGENT = f"asyncfetch/{__version__}"

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.IGNORECASE)


class ContentRange(NamedTuple):
    """What a partial answer holds: bytes `start` to before `stop`, of `total`, which is None where nobody said."""

    start: int
    stop: int
    total: int | None


def read_content_range(value: str | None) -> ContentRange | None:
    """Reads a Content-Range header (RFC 9110, section 14.4), None when it is missing or makes no sense."""
    found = _CONTENT_RANGE.match(value or "")
    if found is None:
        return None
    start, stop = int(found[1]), int(found[2]) + 1
    total = None if found[3] == "*" else int(found[3])
    return ContentRange(start, stop, total) if start < stop and (total is None or stop <= total) else None


def check_range(wanted: ByteRange) -> ByteRange:
    """Gives a range back if it can be asked for; servers answer one that cannot with the whole object.

    Raises `UsageError` for one that is empty or begins before the first byte.
    """
    if wanted.start < 0 or (wanted.stop is not None and wanted.stop <= wanted.start):
        raise UsageError(f"{wanted.start}:{wanted.stop} is no range of bytes", remedy="Give 0 <= start < stop.")
    return wanted


def clip_range(wanted: ByteRange | None, size: int, uri: str) -> tuple[int, int]:
    """The first byte and the one behind the last of what a range means for an object of `size` bytes.

    Raises `RangeNotSatisfiable` when it begins behind the end, as every range of an empty object does.
    """
    if wanted is None:
        return 0, size
    if wanted.start >= size:
        raise RangeNotSatisfiable(uri, f"the range begins at byte {wanted.start}, the object has {size} bytes")
    return wanted.start, size if wanted.stop is None else min(wanted.stop, size)


def read_etag(value: str | None) -> str | None:
    """An ETag without quotes, whether it came with them or not; a weak one keeps its `W/` (RFC 9110, section 8.8.3)."""
    if not value:
        return None
    weak, tag = ("W/", value[2:]) if value.startswith("W/") else ("", value)
    if len(tag) > 1 and tag[0] == tag[-1] == '"':
        tag = tag[1:-1]
    return weak + tag


def write_etag(etag: str) -> str:
    """An ETag as If-Match and If-None-Match want it, from the form that `read_etag` gives."""
    return f'W/"{etag[2:]}"' if etag.startswith("W/") else f'"{etag}"'


class CustomerKey(bytes):
    """A key of the customer's on its way into a request: bytes that no `repr` shows, also of what holds them."""

    def __repr__(self) -> str:
        return f"<a key of {len(self)} bytes>"


def customer_key_headers(key: bytes) -> list[tuple[str, str]]:
    """What opens an object that is encrypted with a key of the customer's (AWS: ServerSideEncryptionCustomerKeys)."""
    prefix = "x-amz-server-side-encryption-customer-"
    digest = hashlib.md5(key, usedforsecurity=False).digest()  # against errors of transmission
    return [
        (f"{prefix}algorithm", "AES256"),
        (f"{prefix}key", b64encode(key).decode("ascii")),
        (f"{prefix}key-md5", b64encode(digest).decode("ascii")),
    ]


def read_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Seconds to wait by a Retry-After header, a number or a date (RFC 9110, section 10.2.3); None for neither.

    `date` is what the answer says in its Date header. A moment is told by the server's clock, and this machine's may be
    off by hours.
    """
    text = (value or "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    moment = read_date(text)
    return None if moment is None else max(0.0, (moment - (read_date(date) or datetime.now(UTC))).total_seconds())


@lru_cache(maxsize=1024)
def read_date(text: str | None) -> datetime | None:
    """Reads an HTTP date (RFC 9110, section 5.6.7), None where it is none.

    It takes as long as signing; objects that were stored together share their dates.
    """
    try:
        moment = parsedate_to_datetime(text or "")
        if moment.tzinfo is None:  # "-0000" in the place of GMT
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
