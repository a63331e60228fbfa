"""What S3 answers in XML: pages of ListObjectsV2, and error documents. Nothing here does I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from heapq import merge
from html import unescape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree
from xml.parsers.expat import ErrorString

from asyncfetch.objects import ObjectStat
from asyncfetch.origins.headers import read_etag
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

# 1,000 keys of 1,024 bytes, each byte percent-encoded into three, come to 3 MB, and the rest of an entry adds a few
# hundred bytes. A longer body is no page of S3.
MAX_PAGE_BYTES = 16 << 20
# Seven times what 1,000 entries with owner, checksums and restore status need; bounds the memory that a tree can take.
_MAX_TAGS = 200_000
# Pages have a handful. 900,000, which 16 MiB can hold, take 3 s to read and 270 MB.
_MAX_ATTRIBUTES = 200_000
_SIZE_DIGITS = 19  # of 2**63 - 1


class ListedObject(NamedTuple):
    """One object of a listing. `etag` is without quotes (a weak one keeps its `W/`); `last_modified` is aware.

    `storage_class` is None where the page does not say.
    """

    key: str
    size: int
    etag: str | None
    last_modified: datetime | None
    storage_class: str | None = None


class Page(NamedTuple):
    """One page of a listing, keys decoded. `next_token` asks for the page after this one; None: this was the last."""

    objects: list[ListedObject]
    prefixes: list[str]
    next_token: str | None


class ErrorDocument(NamedTuple):
    """What S3 says of a request that failed. What the document does not hold, or not wholly, is None.

    `code` is S3's word for it, `region` and `endpoint` are where the request should have gone. `storage_class` is that
    of an archived object, `server_time` what the server's clock showed, as it wrote it.
    """

    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    region: str | None = None
    endpoint: str | None = None
    storage_class: str | None = None
    server_time: str | None = None


class MalformedPage(ValueError):
    """Raised when bytes are not a whole page of ListObjectsV2; the message says where they stop being one."""


def parse_page(body: bytes | bytearray | memoryview) -> Page:
    """Reads one answer to ListObjectsV2 (AWS: API_ListObjectsV2), with or without a namespace, elements in any order.

    Keys and prefixes are percent-decoded where the page says `EncodingType` url, `+` being a space, as S3 writes it.
    Elements that are not known here are passed over. Raises `MalformedPage` for what is not well-formed, not UTF-8, has
    a document type (and so could have entities to expand), lacks a key or a size, or is truncated without a token.
    """
    if len(body) > MAX_PAGE_BYTES:
        raise MalformedPage(f"{len(body)} bytes; a page has at most {MAX_PAGE_BYTES}")
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedPage(f"byte {error.start} is not UTF-8") from None
    frame, scanned = _scan(text)
    if frame.count("<") > _MAX_TAGS:
        raise MalformedPage(f"more than {_MAX_TAGS} tags")
    if frame.count("=") > _MAX_ATTRIBUTES:  # keys with an `=` are counted too, and are not so many by far
        raise MalformedPage(f"more than {_MAX_ATTRIBUTES} attributes")
    # The text is known to be UTF-8, so a document type cannot hide in another encoding.
    if "<!DOCTYPE" in frame:
        raise MalformedPage("it has a document type, which S3 never sends")
    try:
        # Without a document type there are no entities to expand, and the tags are counted.
        root = ElementTree.fromstring(frame)  # noqa: S314
    except ElementTree.ParseError as error:
        raise MalformedPage(f"it is not well-formed ({ErrorString(error.code)})") from None
    return _page(root, scanned)


def parse_error(body: bytes | bytearray | memoryview) -> ErrorDocument:
    """Reads what can be read of an error document; the body may be cut off, empty, HTML or noise. Raises nothing.

    Only the first 64 KiB are looked at. The message is one printable line of at most 1,000 characters. Fields that may
    repeat the request's secrets (`ExpiredToken` quotes the token) are never taken.
    """
    text = str(memoryview(body)[:65_536], "utf-8", "replace")
    if _ERROR.search(text) is None:
        return ErrorDocument()
    code, request_id, region, endpoint, storage_class, server_time = [
        found[1] if (found := field.search(text)) else None
        for field in (_CODE, _REQUEST_ID, _REGION, _ENDPOINT, _STORAGE_CLASS, _SERVER_TIME)
    ]
    message = unescape(found[1]) if (found := _MESSAGE.search(text)) else ""
    message = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    return ErrorDocument(code, message[:1000] or None, request_id, region, endpoint, storage_class, server_time)


# Of an entry: key, date, ETag without its `&quot;` or else ETag as it is written, size, and storage class.
_Raw = tuple[str, str, str, str, str, str]

# An entry as AWS, MinIO, moto and rclone write it, else all that follows. A page of 1,000 takes 1.2 ms through this
# pattern; 3.6 through ElementTree, 7 through expat with handlers as careful, 40 through botocore's parser. Its text
# excludes what XML gives a meaning to or does not allow (entities, `]]>`, control characters), so that whatever it
# takes reads the same in ElementTree; a page with one entry of another shape goes there whole.
_TEXT = r"[^<>&\x00-\x1f\ufffe\uffff]"
_ENTRY = re.compile(
    rf"""
    <Contents> [ \n]*
        <Key> ({_TEXT}+) </Key> [ \n]*
        <LastModified> ({_TEXT}*) </LastModified> [ \n]*
        <ETag> (?: &quot; ({_TEXT}*) &quot; | ({_TEXT}*) ) </ETag> [ \n]*
        (?: <ChecksumAlgorithm> \w* </ChecksumAlgorithm> [ \n]* )*
        (?: <ChecksumType> \w* </ChecksumType> [ \n]* )?
        <Size> ([0-9]{{1,{_SIZE_DIGITS}}}) </Size> [ \n]*
        (?: <StorageClass> (\w*) </StorageClass> [ \n]* )?
    </Contents> [ \n]*
    | [\s\S]+
    """,
    re.VERBOSE,
)
# Stands in the frame for the entries that were taken out.
_PLACE = "<scanned/>"


def _scan(text: str) -> tuple[str, list[_Raw]]:
    """The page without its entries and what they say, if each of them has the usual shape; else the whole page."""
    start, stop = text.find("<Contents>"), text.rfind("</Contents>") + len("</Contents>")
    if not 0 <= start < stop:
        return text, []
    head, tail = text[:start], text[stop:]
    # Inside a comment, a CDATA section or a processing instruction an entry would be text.
    if "<!" in head or "<?" in head[2:]:
        return text, []
    found: list[_Raw] = _ENTRY.findall(text, start, stop)
    if not found[-1][4]:  # the last match is no entry, which has a size, but a rest
        return text, []
    return f"{head}{_PLACE}{tail}", found


def _page(root: Element, scanned: list[_Raw]) -> Page:
    space, _, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise MalformedPage(f"it is a document of <{name[:100]}>, not of <ListBucketResult>")
    if space:
        space += "}"
    fields = [f"{space}{field}" for field in ("Key", "LastModified", "ETag", "Size", "StorageClass")]
    contents, prefix, place = f"{space}Contents", f"{space}CommonPrefixes", f"{space}scanned"
    entries: list[_Raw] = []
    prefixes: list[str] = []
    for element in root:
        if element.tag == contents:
            entries.append(_entry(*[_text(element, field) for field in fields]))
        elif element.tag == prefix:
            prefixes.append(_text(element, f"{space}Prefix"))
        elif element.tag == place and scanned:
            entries += scanned
            scanned = []
    if scanned:
        raise MalformedPage("its entries stand outside <ListBucketResult>")
    token = None
    if _text(root, f"{space}IsTruncated") == "true":
        token = _text(root, f"{space}NextContinuationToken")
        if not token:
            raise MalformedPage("it is truncated without a token for the next page")
    decode = _percent_decoded if _text(root, f"{space}EncodingType") == "url" else str
    objects = [
        ListedObject(decode(key), int(size), quoted or read_etag(etag) or None, _date(date), kind or None)
        for key, date, quoted, etag, size, kind in entries
    ]
    return Page(objects, [decode(prefix) for prefix in prefixes], token)


def _text(parent: Element, tag: str) -> str:
    element = parent.find(tag)
    if element is None:
        return ""
    if len(element):
        raise MalformedPage(f"<{tag.rpartition('}')[2]}> holds an element")
    return element.text or ""


def _entry(key: str, date: str, etag: str, size: str, storage_class: str) -> _Raw:
    if not key:
        raise MalformedPage("an entry has no key")
    if not (size.isascii() and size.isdecimal() and len(size) <= _SIZE_DIGITS):
        raise MalformedPage(f"the size of {key[:200]!r} is {size[:100]!r}")
    return key, date, "", etag, size, storage_class


def _percent_decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise MalformedPage(f"{text[:200]!r} does not decode to UTF-8") from None


def _date(text: str) -> datetime | None:
    if not text:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedPage(f"{text[:100]!r} is not a date") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


# Every field but the message has to be closed: half a code or half a region would be another one.
_ERROR = re.compile(r"<(?:\w+:)?Error[\s>]")
_CODE = re.compile(r"<(?:\w+:)?Code>\s*([\w.-]{1,100})\s*</", re.ASCII)
_REQUEST_ID = re.compile(r"<(?:\w+:)?RequestI[dD]>\s*([!-;=-~]{1,200})\s*</")
_REGION = re.compile(r"<(?:\w+:)?Region>\s*([\w-]{1,100})\s*</", re.ASCII)
_ENDPOINT = re.compile(r"<(?:\w+:)?Endpoint>\s*([\w.:\[\]-]{1,300})\s*</", re.ASCII)
_STORAGE_CLASS = re.compile(r"<(?:\w+:)?StorageClass>\s*(\w{1,100})\s*</", re.ASCII)
_SERVER_TIME = re.compile(r"<(?:\w+:)?ServerTime>\s*([\w:.+-]{1,100})\s*</", re.ASCII)
_MESSAGE = re.compile(r"<(?:\w+:)?Message>([^<]{0,8000})")


def in_order(bucket: str, page: Page) -> Iterator[ObjectStat]:
    """A page's objects and common prefixes as stats, merged into the UTF-8 order of keys; S3 gives each in its own."""
    objects = (
        ObjectStat(str(Location("s3", bucket, key)), size, etag, None, modified, storage_class=storage_class)
        for key, size, etag, modified, storage_class in page.objects
    )
    if not page.prefixes:
        return objects
    prefixes = (ObjectStat(str(Location("s3", bucket, prefix)), 0) for prefix in page.prefixes)
    return merge(objects, prefixes, key=lambda stat: stat.uri.encode())
