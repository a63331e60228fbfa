"""Thumbnails by the function: of which original, over what, of every kind of image, from lists, and cut short."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Unpack

import cv2
import numpy as np
import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Limit, Request, selection
from asyncfetch.toolbox import Made, ThumbnailOptions, thumbnails
from asyncfetch.toolbox.kinds import kind_of
from asyncfetch.toolbox.metadata import MetadataFile
from asyncfetch.toolbox.targets import Beside
from tests.objects import Bucket
from tests.origins.shelf import Shelf
from tests.servers import Server, needs
from tests.toolbox.kinds import KINDS, photograph
from tests.toolbox.refusing import refusing_writes, seeing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from asyncfetch.testing import EmbeddedS3
    from asyncfetch.toolbox import Told

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def fetcher(cache_dir: Path) -> AsyncIterator[Fetcher]:
    async with Fetcher(cache_dir=cache_dir, workers=1) as opened:
        yield opened


def owners(bucket: Bucket) -> dict[str, str]:
    """Each thumbnail's key with the key of the original that it says it is of."""
    found = {}
    for stat in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", ()):
        head = bucket.client.head_object(Bucket=bucket.name, Key=stat["Key"])["Metadata"]
        if (of := head.get("asyncfetch-thumbnail-of")) is not None:
            found[stat["Key"]] = of.removeprefix(bucket.uri())
    return found


def body_of(bucket: Bucket, key: str) -> bytes:
    return bytes(bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read())


async def next_second() -> None:
    """Dates of S3 have no parts of a second, and what is of the same one is not taken for newer."""
    await asyncio.sleep(1 - time.time() % 1)


async def run(fetcher: Fetcher, wanted: str | Request, **options: Unpack[ThumbnailOptions]) -> tuple[Made, list[Told]]:
    told: list[Told] = []
    return await thumbnails(fetcher, wanted, **options | {"told": told.append}), told


async def test_each_of_two_originals_with_one_name_keeps_its_own(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    for shade, key in enumerate(["a.jpg", "a.png", "b.jpg"]):
        bucket.put(key, photograph(shade))
    await next_second()
    first, _ = await run(fetcher, bucket.uri())
    assert (first.made, first.failed) == (3, 0)
    found = owners(bucket)
    assert found["a_thumb.webp"] == "a.jpg"
    assert all(key.endswith("_thumb.webp") for key in found), "else they would be originals of the next run"
    assert sorted(found.values()) == ["a.jpg", "a.png", "b.jpg"]
    assert (await run(fetcher, bucket.uri()))[0].outcomes == 0
    bucket.client.delete_object(Bucket=bucket.name, Key="a.jpg")
    assert (await run(fetcher, bucket.uri()))[0].outcomes == 0, "the other has its own still"


async def test_what_came_later_or_was_left_out_does_not_take_the_name(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    bucket.put("a.png", photograph(1))
    bucket.put("a.jpg", photograph(2))
    await next_second()
    only = Request(prefix=bucket.uri(), selection=selection(include=["*.png"]))
    assert (await run(fetcher, only))[0].made == 1
    assert (await run(fetcher, bucket.uri()))[0].made == 1
    found = owners(bucket)
    assert sorted(found.values()) == ["a.jpg", "a.png"]
    assert (await run(fetcher, bucket.uri()))[0].outcomes == 0
    assert owners(bucket) == found


async def test_the_thumbnail_of_what_is_no_more_is_written_over(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    bucket.put("a.jpg", photograph(1))
    bucket.put("a.png", photograph(2))
    await next_second()
    await run(fetcher, Request(uris=[bucket.uri("a.jpg")]))
    bucket.client.delete_object(Bucket=bucket.name, Key="a.jpg")
    assert (await run(fetcher, bucket.uri()))[0].made == 1
    assert owners(bucket) == {"a_thumb.webp": "a.png"}


async def test_another_prefix_with_the_same_names_is_not_taken_for_done(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    for prefix in ("x", "y"):
        for name in range(3):
            bucket.put(f"{prefix}/{name}.jpg", photograph(name))
    await next_second()
    for prefix in ("x", "y"):
        made, _ = await run(fetcher, bucket.uri(f"{prefix}/"), to=bucket.uri("small/"))
        assert made.made == 3
    assert sorted(owners(bucket).values()) == sorted(f"{prefix}/{name}.jpg" for prefix in "xy" for name in range(3))
    for prefix in ("x", "y"):
        assert (await run(fetcher, bucket.uri(f"{prefix}/"), to=bucket.uri("small/")))[0].outcomes == 0


async def test_a_replaced_original_has_its_thumbnail_made_anew(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    bucket.put("a.jpg", photograph(1))
    await run(fetcher, bucket.uri())
    before = body_of(bucket, "a_thumb.webp")
    bucket.put("a.jpg", photograph(9))
    assert (await run(fetcher, bucket.uri()))[0].made == 1
    assert body_of(bucket, "a_thumb.webp") != before


ODD = [
    "ä ö/ü.jpg",
    "a%20b+c&d?.jpg",
    ".jpg",
    "no-extension",
    "two..dots.jpg",
    "日本/写真.jpg",
    "sp ace .jpg",
    "a//b.jpg",
]


async def test_odd_keys(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    longest = "k" * 1020 + ".jpg"
    for key in [*ODD, longest]:
        bucket.put(key, photograph(1))
    made, told = await run(fetcher, bucket.uri())
    assert (made.made, made.failed) == (len(ODD), 1)
    (failed,) = [one for one in told if one.failure]
    assert failed.uri == bucket.uri(longest)
    assert failed.failure is not None
    assert "S3 cannot hold this name" in str(failed.failure.exception)
    assert set(owners(bucket)) == {
        "ä ö/ü_thumb.webp",
        "a%20b+c&d?_thumb.webp",
        ".jpg_thumb.webp",
        "no-extension_thumb.webp",
        "two..dots_thumb.webp",
        "日本/写真_thumb.webp",
        "sp ace _thumb.webp",
        "a//b_thumb.webp",
    }
    again, _ = await run(fetcher, bucket.uri(), again=True)
    assert again.made == len(ODD)


async def test_every_kind_of_image(fetcher: Fetcher, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, kind in KINDS.items():
        (source / name).write_bytes(kind.body)
    for suffix in (".webp", ".jpg"):
        _, told = await run(fetcher, str(source), output=tmp_path / f"out{suffix}", suffix=suffix, max_side=32)
        unmade = {one.uri.rpartition("/")[2]: one.word for one in told if one.word != "made"}
        assert unmade == {"torn.jpg": "failed", "text.jpg2": "other", "empty.jpg3": "other"}
        for name, kind in KINDS.items():
            if kind.color is None:
                continue
            data = (tmp_path / f"out{suffix}" / f"{name.rpartition('.')[0]}{suffix}").read_bytes()
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert pixels is not None
            assert pixels.shape[:2] == kind.shape, name
            middle = np.atleast_1d(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]).astype(int)
            wanted = kind.color if suffix == ".webp" else kind.on_white
            assert np.abs(middle[: len(wanted)] - wanted).max() <= 12, (name, middle)
            if suffix == ".webp" and len(wanted) == 4:
                assert pixels.shape[2] == 4, name


async def test_lists_and_what_they_do_not_find(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    bucket = empty_bucket
    for name in ("a", "b", "c"):
        bucket.put(f"photos/{name}.jpg", photograph(ord(name)))
    rows = tmp_path / "rows.txt"
    rows.write_text(f"{bucket.uri('photos/a.jpg')}\n{bucket.uri('photos/b.jpg')}\n{bucket.uri('photos/a.jpg')}\n")
    assert (await run(fetcher, Request(rows=str(rows))))[0].made == 2
    before = bucket.bodies()
    assert (await run(fetcher, Request(rows=str(rows))))[0].outcomes == 0
    assert bucket.bodies() == before, "no image was read to see that its thumbnail is there"
    found, told = await run(
        fetcher, Request(uris=["c", "gone"], prefix=bucket.uri("photos/"), match="stem"), to=bucket.uri("small/")
    )
    assert [one.target for one in told] == [bucket.uri("small/c_thumb.webp")]
    assert found.made == 1


@needs()
async def test_a_list_writes_over_nothing_strange_where_nothing_is_conditional(server: Server, cache_dir: Path) -> None:
    """A server that ignores If-None-Match is asked first."""
    shelf = Shelf(server)
    shelf.client.put_object(Bucket=shelf.name, Key="a.jpg", Body=photograph(1))
    shelf.client.put_object(Bucket=shelf.name, Key="a_thumb.webp", Body=b"mine")
    async with Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url, workers=1) as fetcher:
        for wanted in (Request(uris=[str(shelf.at("a.jpg"))]), str(shelf.at("a.jpg")), str(shelf.at(""))):
            made, _ = await run(fetcher, wanted, again=True)
            assert made.kinds == {"NotOurs": 1}
    assert shelf.client.get_object(Bucket=shelf.name, Key="a_thumb.webp")["Body"].read() == b"mine"


@needs()
async def test_a_job_on_each_server_goes_on_where_it_ended(server: Server, cache_dir: Path) -> None:
    shelf = Shelf(server)
    for name in range(6):
        shelf.client.put_object(Bucket=shelf.name, Key=f"p/{name}.jpg", Body=photograph(name))
    async with Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url, workers=1) as fetcher:
        made, _ = await run(fetcher, str(shelf.at("p/")), to=str(shelf.at("small/")))
        assert made.made == 6
        shelf.client.delete_object(Bucket=shelf.name, Key="small/3_thumb.webp")
        made, _ = await run(fetcher, str(shelf.at("p/")), to=str(shelf.at("small/")))
        assert made.made == 1


async def test_two_jobs_at_once_make_each_once(cache_dir: Path, tmp_path: Path, empty_bucket: Bucket) -> None:
    bucket = empty_bucket
    for name in range(20):
        bucket.put(f"{name}.jpg", photograph(name))
    async with (
        Fetcher(cache_dir=cache_dir, workers=1) as one,
        Fetcher(cache_dir=tmp_path / "other", workers=1) as other,
    ):
        both = await asyncio.gather(thumbnails(one, bucket.uri()), thumbnails(other, bucket.uri()))
    assert sum(made.made for made in both) == 20
    assert sum(made.there for made in both) == 20
    assert not any(made.failed for made in both)
    assert len(owners(bucket)) == 20


async def test_too_many_failures_stop_it(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    for name in range(8):
        empty_bucket.put(f"{name}.jpg", b"no image")
    made, _ = await run(fetcher, empty_bucket.uri(), max_failures=Limit(count=2))
    assert made.stopped is not None
    assert "--max-failures" in made.stopped
    assert made.failed >= 3


@pytest.mark.parametrize(
    ("why", "missing"),
    [
        ("Access Denied", "s3:PutObject on arn:aws:s3:::"),
        ("no access to the ciphertext, by KMS", "kms:GenerateDataKey"),
    ],
)
async def test_without_the_permission_to_write_it_stops_and_says_which(
    moto: EmbeddedS3, cache_dir: Path, empty_bucket: Bucket, why: str, missing: str
) -> None:
    bucket = empty_bucket
    for name in range(12):
        bucket.put(f"{name}.jpg", photograph(name))
    with refusing_writes(moto.endpoint_url, 3, why) as url:
        async with Fetcher(cache_dir=cache_dir, endpoint_url=url, workers=1) as fetcher:
            made, told = await run(fetcher, bucket.uri())
    assert made.stopped is not None
    assert missing in made.stopped
    assert (made.made, made.failed) == (3, 0), "nobody's failure"
    assert not any(one.failure for one in told)
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        assert (await run(fetcher, bucket.uri()))[0].failed == 0
    assert len(owners(bucket)) == 12


async def test_an_error_of_the_callers_own_comes_out_as_it_is(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    empty_bucket.put("a.jpg", photograph(1))

    def told(one: Told) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await thumbnails(fetcher, empty_bucket.uri(), told=told)


async def test_cancelled_it_leaves_whole_thumbnails_and_is_gone_on_with(
    fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path
) -> None:
    bucket, lines = empty_bucket, tmp_path / "out.jsonl"
    gallery = tmp_path / "out.html"
    gallery.write_text("old")
    for name in range(30):
        bucket.put(f"{name}.jpg", photograph(name))
    begun = asyncio.Event()
    job = asyncio.create_task(
        thumbnails(fetcher, bucket.uri(), metadata=lines, gallery=gallery, told=lambda told: begun.set())
    )
    await begun.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    for key in owners(bucket):
        assert cv2.imdecode(np.frombuffer(body_of(bucket, key), np.uint8), cv2.IMREAD_COLOR) is not None
    assert all(json.loads(line)["uri"] for line in lines.read_text().splitlines())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.html", "out.jsonl"]
    assert gallery.read_text() == "old"
    made = await thumbnails(fetcher, bucket.uri(), metadata=lines, gallery=gallery)
    assert made.failed == 0
    assert len(owners(bucket)) == 30
    assert len(lines.read_text().splitlines()) == 30
    assert gallery.read_text() != "old"


async def test_metadata_are_of_one_job_at_a_time(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    empty_bucket.put("a.jpg", photograph(1))
    with MetadataFile(tmp_path / "m.jsonl"), pytest.raises(UsageError, match="another job"):
        await thumbnails(fetcher, empty_bucket.uri(), metadata=tmp_path / "m.jsonl", metadata_only=True)


async def test_what_a_list_names_is_measured_once(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    names = [empty_bucket.put(f"{name}.jpg", photograph(name)) for name in range(3)]
    for measured in (3, 0):
        made, _ = await run(fetcher, Request(uris=names), metadata=tmp_path / "m.jsonl", metadata_only=True)
        assert made.measured == measured


async def test_a_suffix_that_is_an_extension_would_hide_originals(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    empty_bucket.put("a.jpg", photograph(1))
    with pytest.raises(UsageError, match="every .jpg"):
        await thumbnails(fetcher, empty_bucket.uri(), suffix=".jpg")


def test_names_in_metadata_are_ascii_and_short() -> None:
    for uri in ("s3://b/ä", "file:///\udcff.jpg", "s3://b/" + "ü" * 500):
        assert Beside.short(uri).isascii()
        assert len(Beside.short(uri)) <= 1000
    assert Beside.short("s3://b/" + "ü" * 500) != Beside.short("s3://b/" + "ü" * 501)


class Replacing:
    """Replaces originals while their thumbnails are being written: seen by the requests of another."""

    def __init__(self, bucket: Bucket, key: str, times: int) -> None:
        self._bucket, self._key, self._left = bucket, key, times
        self.bodies: list[bytes] = []

    def __call__(self, method: str, path: str) -> None:
        if method == "PUT" and self._left:
            self._left -= 1
            self.bodies.append(photograph(100 + self._left))
            self._bucket.put(self._key, self.bodies[-1])


@pytest.mark.parametrize("cached", [False, True])
async def test_an_original_replaced_while_its_thumbnail_is_made_is_made_anew(
    moto: EmbeddedS3, cache_dir: Path, empty_bucket: Bucket, tmp_path: Path, cached: bool
) -> None:
    """The thumbnail would be newer than the original that it is not of, and so stay for ever."""
    bucket = empty_bucket
    bucket.put("a.jpg", photograph(1))
    replacing = Replacing(bucket, "a.jpg", 1)
    with seeing(moto.endpoint_url, replacing) as url:
        async with Fetcher(cache_dir=cache_dir, endpoint_url=url, workers=1) as fetcher:
            if cached:
                await fetcher.prefetch([bucket.uri("a.jpg")])
            made, told = await run(fetcher, bucket.uri(), metadata=tmp_path / "m.jsonl")
    assert (made.made, made.failed) == (1, 0)
    assert [one.word for one in told] == ["made"]
    head = bucket.client.head_object(Bucket=bucket.name, Key="a_thumb.webp")["Metadata"]
    etag = hashlib.md5(replacing.bodies[0]).hexdigest()
    assert head["asyncfetch-original-etag"] == etag
    (line,) = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert line["etag"] == etag


async def test_one_that_keeps_changing_is_a_failure(moto: EmbeddedS3, cache_dir: Path, empty_bucket: Bucket) -> None:
    empty_bucket.put("a.jpg", photograph(1))
    with seeing(moto.endpoint_url, Replacing(empty_bucket, "a.jpg", 50)) as url:
        async with Fetcher(cache_dir=cache_dir, endpoint_url=url, workers=1) as fetcher:
            made, told = await run(fetcher, empty_bucket.uri())
    assert (made.made, made.failed, dict(made.kinds)) == (0, 1, {"PreconditionFailed": 1})
    assert "changes faster" in str(told[0].failure and told[0].failure.exception)


async def test_what_lies_beside_images_is_passed_over(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    bucket = empty_bucket
    bucket.put("a.jpg", photograph(1))
    unread = ["film.mp4", "labels.json", "rows.csv.gz", "table.parquet", "notes.TXT"]
    for key in [*unread, "README", "_SUCCESS"]:
        bucket.put(key, b"" if key == "_SUCCESS" else b"no image at all")
    bucket.put("broken.png", b"no image at all")
    before = bucket.bodies()
    made, told = await run(fetcher, bucket.uri(), metadata=tmp_path / "m.jsonl")
    assert (made.made, made.others, made.failed) == (1, 2, 1)
    words = {one.uri.removeprefix(bucket.uri()): one.word for one in told}
    assert words == {"a.jpg": "made", "README": "other", "_SUCCESS": "other", "broken.png": "failed"}
    assert bucket.bodies() - before <= 3 + 1, "what its name says to be something else is not read"
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert {line["uri"].removeprefix(bucket.uri()) for line in lines} == {"a.jpg", "broken.png"}
    # Whoever names something means it.
    named, _ = await run(fetcher, Request(uris=[bucket.uri("film.mp4"), bucket.uri("README")]))
    assert (named.failed, named.others) == (2, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.JPG", "image"),
        ("b.heic", "image"),
        ("b.jxl", "unknown"),
        ("b.bin", "unknown"),
        ("b", "unknown"),
        ("x.jpg/b", "unknown"),
        ("b.mp4", "other"),
        ("b.tar.gz", "other"),
        ("b.jpg.gz", "other"),
        ("b.parquet", "other"),
        ("b.npy", "other"),
    ],
)
def test_what_a_name_says(name: str, kind: str) -> None:
    assert kind_of(name) == kind
