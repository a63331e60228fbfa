"""`asyncfetch prefetch` with names that are no keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import asyncfetch
from tests.objects import Bucket


@pytest.fixture
def bucket(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for key in ("in/a.png", "in/x/b.jpg", "in/y/b.jpg", "in/z/c.txt"):
        empty_bucket.put(key, key.encode())
    return empty_bucket


def test_rows_of_a_csv_are_looked_up_and_what_is_lost_is_told(bucket: Bucket) -> None:
    names = b"\xef\xbb\xbfimage,label\r\na.jpg,1\r\nb.jpg,2\r\nd.jpg,3\r\na.jpg,1\r\n"
    asked = ("prefetch", "--from", "-", "--format", "csv", "--prefix", bucket.uri("in/"), "--match", "stem")
    done = asyncfetch(*asked, "--json", given=names)
    told = json.loads(done.out)
    assert done.code == 1
    assert (told["objects"], told["missing"], told["ambiguous"], told["failed"]) == (2, 1, 1, 0)
    assert [(failure["uri"], failure["error"]) for failure in told["failures"]] == [
        ("b.jpg", "UsageError"),
        ("d.jpg", "ObjectNotFound"),
    ]
    done = asyncfetch(*asked, "--ambiguous", "all", given=names)
    assert "d.jpg" in done.err
    assert "4 objects" in done.err
    assert "1 failed" in done.err


def test_a_prefix_is_narrowed(bucket: Bucket) -> None:
    done = asyncfetch("prefetch", bucket.uri("in/"), "--include", "*.jpg", "--exclude", "y/*", "--json")
    assert (done.code, json.loads(done.out)["objects"]) == (0, 1)


def test_a_dry_run_fetches_nothing(bucket: Bucket) -> None:
    asked = ("prefetch", "--from", "-", "--prefix", bucket.uri("in/"), "--match", "name", "--dry-run")
    bucket.server.reset_counts()
    done = asyncfetch(*asked, "--json", given=b"a.png\nb.jpg\nnone\n")
    plan = json.loads(done.out)
    assert (done.code, plan["files"], plan["missing"], plan["ambiguous"]) == (1, 1, 1, 1)
    assert "to fetch                 1  8 B" in asyncfetch(*asked, given=b"a.png\n").err
    assert bucket.bodies() == 0


def test_several_objects_by_their_uris(bucket: Bucket) -> None:
    done = asyncfetch("prefetch", bucket.uri("in/a.png"), bucket.uri("in/z/c.txt"), "--json")
    assert (done.code, json.loads(done.out)["objects"]) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "/tmp"], "is a directory"),
        (["--from", "-", "--format", "csv", "--column", "file"], "has no column 'file'"),
        (["--from", "-", "--include", "*"], "need a prefix"),
        (["s3://b/", "--newer-than", "lately"], "--newer-than"),
    ],
)
def test_wrong_use_is_one_line(cache_dir: Path, arguments: list[str], told: str) -> None:
    done = asyncfetch("prefetch", *arguments, "--cache-dir", cache_dir, given=b"id,label\n1,2\n")
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, b"")
    assert told in done.err


def test_keys_without_their_bucket_are_told_of_prefix(bucket: Bucket, tmp_path: Path) -> None:
    hint = "asyncfetch: no name is that of a file here. If they are keys of a bucket, say --prefix s3://bucket/…\n"
    keys = b"in/a.png\nin/x/b.jpg\n"
    for asked in (("prefetch", "--from", "-"), ("download", "--from", "-", "--yes", "-o", tmp_path / "out")):
        done = asyncfetch(*asked, given=keys)
        assert done.code == 1
        assert done.err.count(hint) == 1
        for other in (
            asyncfetch(*asked, given=keys + bucket.uri("in/a.png").encode()),  # one was had
            asyncfetch(*asked, given=bucket.uri("no").encode()),
            asyncfetch(*asked, "--prefix", bucket.uri("in/"), given=b"no\n"),
        ):
            assert other.code in (1, 2)
            assert hint not in other.err
