"""Inventories of S3: their manifest, their files of three kinds, and what of them is meant."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from asyncfetch import Fetcher
from asyncfetch.errors import ObjectNotFound, UsageError
from asyncfetch.jobs import Reading, Request, Wanted, find, selection
from tests.objects import Bucket

# As S3 makes them of a bucket with versions: a key, its size, its date, whether it is the latest, and a delete marker.
OBJECTS: list[tuple[str, int | None, str, bool, bool]] = [
    ("photos/a b+c%20é.jpg", 5, "2026-01-02T03:04:05.000Z", True, False),
    ("photos/a b+c%20é.jpg", 4, "2025-01-02T03:04:05.000Z", False, False),
    ("photos/gone.jpg", None, "2026-01-02T03:04:05.000Z", True, True),
    ("photos/x/b.png", 7, "2026-03-02T03:04:05.000Z", True, False),
    ("photos/", 0, "2026-03-02T03:04:05.000Z", True, False),
    ("other.txt", 9, "2026-03-02T03:04:05.000Z", True, False),
]
LATEST = ["photos/a b+c%20é.jpg", "photos/x/b.png", "other.txt"]
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate"


def as_csv(objects: list[tuple[str, int | None, str, bool, bool]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for key, size, modified, latest, deleted in objects:
        flags = (str(latest).lower(), str(deleted).lower())
        writer.writerow(("source", quote_plus(key, safe="/"), "v", *flags, "" if size is None else size, modified))
    return gzip.compress(text.getvalue().encode())


def as_columns(objects: list[tuple[str, int | None, str, bool, bool]], kind: str) -> bytes:
    keys, sizes, dates, latest, deleted = zip(*objects, strict=True)
    table = pa.table(
        {
            "bucket": ["source"] * len(keys),
            "key": keys,
            "version_id": ["v"] * len(keys),
            "is_latest": latest,
            "is_delete_marker": deleted,
            "size": sizes,
            "last_modified_date": pa.array([datetime.fromisoformat(date) for date in dates], pa.timestamp("ms")),
        }
    )
    file = io.BytesIO()
    (parquet.write_table if kind == "parquet" else orc.write_table)(table, file)
    return file.getvalue()


def publish(bucket: Bucket, kind: str, **changes: Any) -> str:
    """Puts an inventory in two files, and gives the URI of its manifest."""
    files = []
    for number, part in enumerate((OBJECTS[:3], OBJECTS[3:])):
        body = as_csv(part) if kind == "csv" else as_columns(part, kind)
        key = f"inv/source/all/data/{number}.{'csv.gz' if kind == 'csv' else kind}"
        bucket.put(key, body)
        files.append({"key": key, "size": len(body), "MD5checksum": "0" * 32})
    manifest = {
        "sourceBucket": "source",
        "destinationBucket": f"arn:aws:s3:::{bucket.name}",
        "version": "2016-11-30",
        "creationTimestamp": "1767323045000",
        "fileFormat": {"csv": "CSV", "parquet": "Parquet", "orc": "ORC"}[kind],
        "fileSchema": SCHEMA if kind == "csv" else "message s3.inventory {  required binary bucket (STRING); }",
        "files": files,
    } | changes
    bucket.put("inv/source/all/2026-01-02T03-04Z/manifest.json", json.dumps(manifest).encode())
    return bucket.uri("inv/source/all/2026-01-02T03-04Z/manifest.json")


async def found(cache_dir: Path, uri: str, **asked: Any) -> list[Wanted]:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        items = [item async for item in find(fetcher, Request(rows=uri, **asked))]
    assert all(isinstance(item, Wanted) for item in items)
    return items  # type: ignore[return-value]  # just seen


@pytest.mark.parametrize("kind", ["csv", "parquet", "orc"])
async def test_the_latest_versions_of_what_is_there(empty_bucket: Bucket, cache_dir: Path, kind: str) -> None:
    items = await found(cache_dir, publish(empty_bucket, kind))
    assert [item.below for item in items if not item.below.endswith("/")] == LATEST
    first = items[0].listed
    assert first is not None
    assert (first.uri, first.size, first.etag, first.as_of) == (f"s3://source/{LATEST[0]}", 5, None, None)
    assert first.last_modified == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"prefix": "s3://source/photos/"}, ["a b+c%20é.jpg", "x/b.png"]),
        ({"selection": selection(include=["*.png", "*.txt"])}, ["photos/x/b.png", "other.txt"]),
        ({"selection": selection(min_size="6", max_size="8")}, ["photos/x/b.png"]),
        ({"selection": selection(newer_than="2026-02-01")}, ["photos/x/b.png", "other.txt"]),
        ({"prefix": "s3://elsewhere/"}, []),
    ],
)
async def test_some_of_it(empty_bucket: Bucket, cache_dir: Path, asked: dict[str, Any], expected: list[str]) -> None:
    items = await found(cache_dir, publish(empty_bucket, "csv"), **asked)
    assert [item.below for item in items] == expected


async def test_without_sizes_and_dates_it_is_a_list_of_keys(empty_bucket: Bucket, cache_dir: Path) -> None:
    body = b'"source","a.jpg"\n"source","b.jpg"\n'
    empty_bucket.put("data", body)
    uri = publish(
        empty_bucket, "csv", fileSchema="Bucket, Key", files=[{"key": "data", "size": len(body), "MD5checksum": ""}]
    )
    items = await found(cache_dir, uri)
    assert [(item.uri, item.listed) for item in items] == [("s3://source/a.jpg", None), ("s3://source/b.jpg", None)]
    with pytest.raises(UsageError, match="tells no sizes"):
        await found(cache_dir, uri, selection=selection(min_size="1"))
    with pytest.raises(UsageError, match="tells no dates"):
        await found(cache_dir, uri, selection=selection(newer_than="1d"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fileFormat": "Avro"}, "an inventory as 'avro' is not read"),
        ({"files": None}, "is not the manifest of an S3 Inventory"),
        ({"files": [{"key": "inv/source/all/data/0.csv.gz", "size": 1}]}, "and the manifest says 1"),
        ({"fileSchema": "Bucket, Size"}, "has no column key"),
        ({"fileSchema": SCHEMA + ", ETag" * 9, "fileFormat": "csv"}, None),
        ({"fileSchema": "Bucket, VersionId, IsLatest, A, B, C, D, E, Key"}, "line 1 is no row of an inventory"),
    ],
)
async def test_what_is_no_inventory_is_one_line(
    empty_bucket: Bucket, cache_dir: Path, changes: dict[str, Any], told: str | None
) -> None:
    uri = publish(empty_bucket, "csv", **changes)
    if told is None:
        assert await found(cache_dir, uri)
        return
    with pytest.raises(UsageError, match=told) as raised:
        await found(cache_dir, uri)
    assert "\n" not in str(raised.value)


async def test_a_file_of_it_that_is_cut_off_or_gone_is_named(empty_bucket: Bucket, cache_dir: Path) -> None:
    uri = publish(empty_bucket, "csv")
    cut = as_csv(OBJECTS[:3])[:-9]
    empty_bucket.put("inv/source/all/data/0.csv.gz", cut + b"\0" * 9)
    with pytest.raises(UsageError, match=r"data/0\.csv\.gz is cut off or damaged"):
        await found(cache_dir, uri)
    empty_bucket.client.delete_object(Bucket=empty_bucket.name, Key="inv/source/all/data/0.csv.gz")
    with pytest.raises(ObjectNotFound, match=r"data/0\.csv\.gz"):
        await found(cache_dir, uri)


async def test_its_manifest_may_lie_here_under_another_name(
    empty_bucket: Bucket, cache_dir: Path, tmp_path: Path
) -> None:
    publish(empty_bucket, "parquet")
    manifest = tmp_path / "mine"
    held = empty_bucket.client.get_object(
        Bucket=empty_bucket.name, Key="inv/source/all/2026-01-02T03-04Z/manifest.json"
    )
    manifest.write_bytes(held["Body"].read())
    items = await found(cache_dir, str(manifest), reading=Reading("inventory"))
    assert [item.below for item in items if not item.below.endswith("/")] == LATEST


async def test_names_are_not_matched_in_it() -> None:
    with pytest.raises(UsageError, match="--match"):
        Request(rows="s3://b/manifest.json", match="stem", prefix="s3://b/")
