"""An S3 Inventory, which names the objects of a bucket in files of millions of rows, in the place of a listing.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import csv
import json
from contextlib import aclosing, closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

from asyncfetch.errors import UsageError
from asyncfetch.jobs.ahead import read_ahead
from asyncfetch.jobs.columnar import KINDS, Columnar
from asyncfetch.jobs.text import Text
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from asyncfetch.fetcher import Fetcher

_MOST = 64 << 20  # bytes of a manifest, which has some 200 for each file of a million rows and more
# What is read of a row; a CSV calls it `IsDeleteMarker`, Parquet and ORC `is_delete_marker`.
_NEEDED = ("bucket", "key")
_READ = (*_NEEDED, "size", "lastmodifieddate", "islatest", "isdeletemarker")
_FALSE = (False, "false")
_TRUE = (True, "true")


class Listed(NamedTuple):
    """What an inventory tells of an object; it need not tell the size (bytes) and the date (aware)."""

    uri: str
    key: str
    size: int | None
    modified: datetime | None


class Manifest(NamedTuple):
    """What a `manifest.json` says: files of one `format`, as URIs with their sizes; `columns` are those of a CSV."""

    format: str
    columns: list[str]
    files: list[tuple[str, int]]


def read_manifest(text: bytes, shown: str) -> Manifest:
    """Reads a manifest, called `shown` in what is raised: `UsageError` for what is none."""
    try:
        said = json.loads(text)
        bucket = said["destinationBucket"].rpartition(":::")[2]  # an ARN
        format = said["fileFormat"].lower()
        columns = [name.strip() for name in said["fileSchema"].split(",")] if format == "csv" else []
        files = [(str(Location("s3", bucket, file["key"])), int(file["size"])) for file in said["files"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(
            f"{shown} is not the manifest of an S3 Inventory", remedy="For a list of another kind say --format."
        ) from None
    if format != "csv" and format not in KINDS:
        raise UsageError(f"{shown}: an inventory as {format!r} is not read", remedy="Have it made as CSV or Parquet.")
    return Manifest(format, columns, files)


async def inventory(fetcher: Fetcher, path: str) -> AsyncGenerator[Listed]:
    """Yields the objects that an inventory names, as it is read: current versions, not deleted ones.

    `path` is its manifest, a URI or a file; the files that it names come through the cache, one after the other. Raises
    `UsageError` for what is no inventory, and what `fetch` raises.
    """
    entry = await fetcher.fetch(path)
    if entry.size > _MOST:
        raise UsageError(f"{path} is not the manifest of an S3 Inventory: it has {entry.size:,} bytes")
    manifest = read_manifest(await fetcher.read_bytes(path), path)
    for uri, size in manifest.files:
        entry = await fetcher.fetch(uri)
        if entry.size != size:
            raise UsageError(f"{uri} has {entry.size:,} bytes, and the manifest says {size:,}")
        async with aclosing(read_ahead(partial(_objects, entry.filename, uri, manifest))) as batches:
            async for batch in batches:
                for found in batch:
                    yield found


def _objects(filename: str, shown: str, manifest: Manifest, waiting: Callable[[], None]) -> Iterator[Listed]:
    if manifest.format == "csv":
        rows = _csv_rows(filename, shown, manifest.columns, waiting)
    else:
        rows = _columnar_rows(filename, shown, manifest.format)
    for bucket, key, size, modified, latest, deleted in rows:
        if latest not in _FALSE and deleted not in _TRUE:
            bytes_ = None if size in (None, "") else int(size)
            yield Listed(str(Location("s3", bucket, key)), key, bytes_, _moment(modified) if modified else None)


def _csv_rows(filename: str, shown: str, columns: list[str], waiting: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
    places = _places(columns, shown)
    with closing(Text(shown, filename=filename, waiting=waiting)) as text:
        rows = csv.reader(text)
        while True:
            try:
                cells = next(rows, None)
                if cells is None:
                    return
                bucket, key, *rest = (None if place is None else cells[place] for place in places)
                yield bucket, unquote_plus(key or "", errors="strict"), *rest  # only CSV has them encoded
            except (csv.Error, IndexError, UnicodeDecodeError) as error:
                raise UsageError(f"{shown}: line {rows.line_num} is no row of an inventory: {error}") from None


def _columnar_rows(filename: str, shown: str, kind: str) -> Iterator[tuple[Any, ...]]:
    file = Columnar(filename, kind, shown)
    places = _places(file.names, shown)
    read = [file.names[place] for place in places if place is not None]
    for row in file.rows(read):
        cells = iter(row)
        yield tuple(None if place is None else next(cells) for place in places)


def _places(columns: list[str], shown: str) -> list[int | None]:
    """Where the columns are that are read."""
    plain = [name.replace("_", "").lower() for name in columns]
    for name in _NEEDED:
        if name not in plain:
            raise UsageError(f"{shown} is no inventory: it has no column {name}")
    return [plain.index(name) if name in plain else None for name in _READ]


def _moment(value: Any) -> datetime:
    """A date as a CSV writes it (ISO 8601), or as Parquet and ORC give it."""
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
