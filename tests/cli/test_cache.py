"""`asyncfetch cache stats` and `cache ls`: what they tell of a cache that was really filled."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from asyncfetch.testing import EmbeddedS3
from tests.cli.kept import told
from tests.cli.terminal import asyncfetch
from tests.objects import Bucket
from tests.servers import s3_client


def test_stats_counts_and_says_what_equal_bytes_save(cached: Bucket, cache_dir: Path) -> None:
    (found,) = told("stats")
    assert (found["objects"], found["object_bytes"]) == (5, 7006)
    assert (found["blobs"], found["blob_bytes"], found["saved_bytes"]) == (4, 6006, 1000)
    assert found["cache_dir"] == str(cache_dir)
    assert b"5 objects, 7.01 kB; 4 blobs" in asyncfetch("cache", "stats").out


@pytest.mark.parametrize(
    ("arguments", "groups"),
    [
        (["bucket"], {"": 5}),
        (["prefix"], {"": 1, "photos/": 4}),
        (["prefix", "--depth", "2"], {"": 1, "photos/": 1, "photos/2024/": 3}),
        (["prefix", "--depth", "8"], {"": 1, "photos/": 1, "photos/2024/": 3}),
    ],
)
def test_stats_by_bucket_and_prefix(cached: Bucket, arguments: list[str], groups: dict[str, int]) -> None:
    (found,) = told("stats", "--by", *arguments)
    assert {group["uri"]: group["objects"] for group in found["groups"]} == {
        cached.uri(prefix): count for prefix, count in groups.items()
    }
    assert sum(group["object_bytes"] for group in found["groups"]) == found["object_bytes"]
    assert {group["endpoint"] for group in found["groups"]} == {cached.server.endpoint_url}
    lines = asyncfetch("cache", "stats", "--by", *arguments).out.decode().splitlines()
    assert all(line.endswith(f"  at {cached.server.endpoint_url}") for line in lines[-len(groups) :])


def test_stats_by_bucket_says_how_often_each_was_hit(cached: Bucket) -> None:
    assert asyncfetch("prefetch", cached.uri(), "--quiet").code == 0
    bucket = Bucket(cached.server, {"one.txt": b"one"})
    assert asyncfetch("get", bucket.uri("one.txt"), given=b"").code == 0
    (found,) = told("stats", "--by", "bucket")
    rates = {group["uri"]: (group["hits"], group["misses"], group["hit_rate"]) for group in found["groups"]}
    assert rates == {cached.uri(): (5, 5, 0.5), bucket.uri(): (0, 1, 0.0)}
    assert (found["hits"], found["misses"]) == (5, 6)
    lines = asyncfetch("cache", "stats", "--by", "bucket").out.decode().splitlines()
    assert any(" 50.0% hits  s3://" in line for line in lines)
    assert asyncfetch("cache", "rm", cached.uri()).code == 0
    (found,) = told("stats", "--by", "bucket")
    assert {group["uri"]: group["objects"] for group in found["groups"]} == {cached.uri(): 0, bucket.uri(): 1}


def test_stats_by_prefix_says_how_often_each_was_hit_as_deep_as_that_is_counted(cached: Bucket) -> None:
    def rates(depth: int) -> dict[str, tuple[int, int, float]]:
        (found,) = told("stats", "--by", "prefix", "--depth", depth)
        return {group["uri"]: (group["hits"], group["misses"], group["hit_rate"]) for group in found["groups"]}

    assert asyncfetch("prefetch", cached.uri("photos/2024/"), "--quiet").code == 0
    assert asyncfetch("cache", "rm", cached.uri("photos/same.jpg")).code == 0
    assert asyncfetch("cache", "rm", cached.uri("top.txt")).code == 0
    photos, year, top = cached.uri("photos/"), cached.uri("photos/2024/"), cached.uri()
    assert rates(1) == {photos: (3, 4, 0.4286), top: (0, 1, 0.0)}
    assert rates(2) == {year: (3, 3, 0.5), photos: (0, 1, 0.0), top: (0, 1, 0.0)}
    assert rates(3) == {year: (None, None, None), photos: (0, 1, 0.0), top: (0, 1, 0.0)}
    shallow = asyncfetch("cache", "stats", "--by", "prefix", "--depth", "2")
    assert (f" 50.0% hits  {year}" in shallow.out.decode(), "?" in shallow.err) == (True, False)
    deep = asyncfetch("cache", "stats", "--by", "prefix", "--depth", "3")
    assert f"          ?  {year}" in deep.out.decode()
    assert "? stands where no look-ups were counted" in deep.err


@pytest.mark.parametrize("made", [False, True], ids=["not there", "empty"])
@pytest.mark.parametrize("command", ["stats", "ls", "verify", "clear"])
def test_a_directory_without_a_cache_is_told_and_stays_as_it_is(tmp_path: Path, command: str, *, made: bool) -> None:
    place = tmp_path / "typo"
    if made:
        place.mkdir()
    done = asyncfetch("cache", command, "--cache-dir", place)
    assert done.code == 1
    assert done.err == f"asyncfetch: {place}: there is no cache here. Say where it is with --cache-dir.\n"
    assert list(tmp_path.rglob("*")) == [place] * made


def test_stats_of_a_cache_that_is_empty(cache_dir: Path) -> None:
    (cache_dir / "v1").mkdir(parents=True)
    (found,) = told("stats", "--by", "prefix", "--cache-dir", cache_dir)
    assert (found["objects"], found["blobs"], found["groups"], found["hit_rate"]) == (0, 0, [], None)


def test_stats_by_something_else_is_wrong_use() -> None:
    done = asyncfetch("cache", "stats", "--by", "colour")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_ls_says_what_there_is_and_narrows(cached: Bucket) -> None:
    every = told("ls")
    assert [item["uri"] for item in every] == [
        cached.uri(key)
        for key in ("photos/2024/0.jpg", "photos/2024/1.jpg", "photos/2024/2.jpg", "photos/same.jpg", "top.txt")
    ]
    first = every[0]
    assert (first["size"], first["pinned"], first["endpoint"]) == (1000, False, cached.server.endpoint_url)
    assert first["digest"] == every[3]["digest"] == "blake3:" + first["digest"].partition(":")[2]
    assert first["etag"].strip('"') == hashlib.md5(b"x" * 1000).hexdigest()
    assert first["checked"].endswith("Z")
    assert first["used"].endswith("Z")
    assert [item["uri"] for item in told("ls", cached.uri("photos/s"))] == [cached.uri("photos/same.jpg")]
    assert len(told("ls", "s3://")) == 5
    assert len(told("ls", "--endpoint-url", cached.server.endpoint_url)) == 5
    assert told("ls", "--endpoint-url", "http://127.0.0.1:9") == []


def test_ls_for_people_is_a_line_each_with_the_endpoint(cached: Bucket) -> None:
    lines = asyncfetch("cache", "ls", cached.uri("top")).out.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(f"{cached.uri('top.txt')}  at {cached.server.endpoint_url}")
    nothing = asyncfetch("cache", "ls", cached.uri("none/"))
    assert (nothing.code, nothing.out) == (0, b"")
    assert cached.uri("none/") in nothing.err


def test_the_same_bucket_name_at_two_endpoints_is_two_places(cached: Bucket, cache_dir: Path) -> None:
    with EmbeddedS3() as other:
        s3_client(other).create_bucket(Bucket=cached.name)
        s3_client(other).put_object(Bucket=cached.name, Key="top.txt", Body=b"other\n")
        access = {
            "AWS_ACCESS_KEY_ID": other.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": other.credentials.secret_access_key,
        }
        at = ("--endpoint-url", other.endpoint_url)
        assert asyncfetch("get", cached.uri("top.txt"), *at, given=b"", **access).code == 0
        (found,) = told("stats", "--by", "bucket")
        assert {group["endpoint"]: group["objects"] for group in found["groups"]} == {
            cached.server.endpoint_url: 5,
            other.endpoint_url: 1,
        }
        assert len(told("ls", cached.uri("top.txt"))) == 2
        assert [item["endpoint"] for item in told("ls", *at)] == [other.endpoint_url]


def test_ls_leaves_out_what_has_lost_its_blob(cached: Bucket, cache_dir: Path) -> None:
    (database,) = cache_dir.glob("v1/index/*.sqlite")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM blobs WHERE size = 6")
    connection.close()
    assert cached.uri("top.txt") not in [item["uri"] for item in told("ls")]


@pytest.mark.parametrize("command", ["stats", "ls"])
def test_where_no_cache_can_be_it_is_one_line(command: str) -> None:
    done = asyncfetch("cache", command, "--cache-dir", "/etc/hostname")
    assert (done.code, done.err.count("\n"), done.out) == (1, 1, b"")


def test_ls_of_a_local_path_is_wrong_use() -> None:
    done = asyncfetch("cache", "ls", "/tmp/photos")
    assert (done.code, done.err.count("\n")) == (2, 1)
