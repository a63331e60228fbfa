"""`asyncfetch thumbnails`: beside the originals, elsewhere, or into a directory; gone on with; over nothing strange."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch.testing import demo_objects
from tests.cli.terminal import COMMAND, Done, asyncfetch, environment
from tests.objects import Bucket
from tests.toolbox.kinds import photograph

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)  # several commands a test, each with workers of its own

PHOTOGRAPHS = {key: body for key, body in demo_objects(12) if key.endswith(".jpg") and "not-an-image" not in key}


@pytest.fixture
def bucket(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for key, body in PHOTOGRAPHS.items():
        empty_bucket.put(f"photos/{key}", body)
    return empty_bucket


@pytest.fixture
def many(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    """More images than are asked for at once."""
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for number in range(60):
        empty_bucket.put(f"{number:03}.jpg", photograph(number))
    return empty_bucket


@contextmanager
def begun(bucket: Bucket) -> Iterator[subprocess.Popen[str]]:
    """A process that has made its first thumbnail, and has many before it."""
    command = [*COMMAND, "thumbnails", bucket.uri(), "-y", "--json", "--concurrency", "2"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        next(line for line in running.stdout if json.loads(line)["event"] == "made")
        yield running


def thumbnails(*arguments: object) -> Done:
    return asyncfetch("thumbnails", *arguments)


def bodies(bucket: Bucket, prefix: str = "") -> dict[str, bytes]:
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", ())
    return {stat["Key"]: bucket.client.get_object(Bucket=bucket.name, Key=stat["Key"])["Body"].read() for stat in found}


def end(done: Done) -> dict[str, Any]:
    return dict(json.loads(done.out.splitlines()[-1]))


def good(key: str) -> bool:
    return cv2.imdecode(np.frombuffer(PHOTOGRAPHS[key], np.uint8), cv2.IMREAD_COLOR) is not None


GOOD = [key for key, body in PHOTOGRAPHS.items() if body and good(key)]


def test_they_lie_beside_and_a_second_run_makes_none(bucket: Bucket) -> None:
    done = thumbnails(bucket.uri("photos/"), "--yes", "--json", "--max-side", 100)
    assert (done.code, end(done)["made"]) == (int(len(GOOD) < len(PHOTOGRAPHS)), len(GOOD)), done.err
    there = bodies(bucket)
    made = {f"photos/{key.removesuffix('.jpg')}_thumb.webp" for key in GOOD}
    assert set(there) == made | {f"photos/{key}" for key in PHOTOGRAPHS}
    for key in made:
        pixels = cv2.imdecode(np.frombuffer(there[key], np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert max(pixels.shape[:2]) == 100
    before = bucket.requests("PUT")
    again = thumbnails(bucket.uri("photos/"), "--yes", "--json", "--max-side", 100)
    assert end(again)["made"] == 0, again.out
    assert bucket.requests("PUT") == before
    assert bodies(bucket) == there


def test_nothing_strange_is_written_over(bucket: Bucket) -> None:
    name = f"photos/{GOOD[0].removesuffix('.jpg')}_thumb.webp"
    bucket.put(name, b"mine")
    bucket.put(f"photos/{GOOD[0]}", PHOTOGRAPHS[GOOD[0]])  # newer than what lies there
    done = thumbnails(bucket.uri("photos/"), "--yes", "--json", "--again")
    assert done.code == 1
    assert end(done)["kinds"]["NotOurs"] == 1
    assert bodies(bucket)[name] == b"mine"


def test_another_prefix_inside_of_the_first_is_no_source(bucket: Bucket) -> None:
    to = bucket.uri("photos/small/")
    for _ in range(2):
        done = thumbnails(bucket.uri("photos/"), "--to", to, "--suffix", ".jpg", "-y", "--json")
        assert json.loads(done.out.splitlines()[0])["originals"] == len(PHOTOGRAPHS), done.err
    assert len(bodies(bucket, "photos/small/")) == len(GOOD)
    refused = thumbnails(bucket.uri("photos/"), "--to", bucket.uri(), "-y")
    assert (refused.code, "has the originals" in refused.err) == (2, True)


def test_a_directory_is_filled_and_gone_on_with(bucket: Bucket, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = thumbnails(bucket.uri("photos/"), "-o", out, "-y", "--json")
    assert end(done)["made"] == len(GOOD), done.err
    assert len(list(out.glob("*_thumb.webp"))) == len(GOOD)
    next(out.glob("*_thumb.webp")).unlink()
    assert end(thumbnails(bucket.uri("photos/"), "-o", out, "-y", "--json"))["made"] == 1


def test_metadata_alone_and_what_is_alike(bucket: Bucket, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    original = PHOTOGRAPHS[GOOD[0]]
    bucket.put("photos/z-copy.jpg", original)
    pixels = cv2.imdecode(np.frombuffer(original, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    bucket.put("photos/z-near.jpg", bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]))
    bucket.put("photos/z-bad.jpg", b"no picture")
    done = thumbnails(bucket.uri("photos/"), "--metadata", lines, "--metadata-only", "-y")
    assert done.code == 1
    found = {line["uri"]: line for line in map(json.loads, lines.read_text().splitlines())}
    assert len(found) == len(PHOTOGRAPHS) + 3
    first = bucket.uri(f"photos/{GOOD[0]}")
    assert found[bucket.uri("photos/z-copy.jpg")]["duplicate_of"] == first
    assert found[bucket.uri("photos/z-near.jpg")]["near_duplicate_of"] == first
    assert found[bucket.uri("photos/z-bad.jpg")]["error"] == "UnsupportedFormat"
    told = found[first]
    assert (told["height"], told["width"], told["format"]) == (*pixels.shape[:2], "JPEG")
    assert told["bytes"] == len(original)
    assert not any("_thumb" in key for key in bodies(bucket))
    text = lines.read_bytes()
    lines.write_bytes(text + b'{"uri": "torn')
    bucket.client.delete_object(Bucket=bucket.name, Key="photos/z-bad.jpg")
    assert thumbnails(bucket.uri("photos/z"), "--metadata", lines, "--metadata-only", "-y").code == 0
    assert lines.read_bytes() == text, "nothing was read again"


def test_a_killed_run_is_gone_on_with(many: Bucket) -> None:
    with begun(many) as running:
        running.kill()
    before = len([key for key in bodies(many) if "_thumb" in key])
    assert 0 < before < 60
    assert end(thumbnails(many.uri(), "-y", "--json"))["failed"] == 0
    assert len([key for key in bodies(many) if "_thumb" in key]) == 60


def test_ctrl_c_finishes_what_is_in_flight_and_is_gone_on_with(many: Bucket) -> None:
    with begun(many) as running:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert running.returncode == 130, err
    told = dict(json.loads(out.splitlines()[-1]))
    assert told["event"] == "end"
    assert told["stopped"] == "Interrupted"
    assert told["left"] > 0
    assert told["made"] == len([key for key in bodies(many) if "_thumb" in key]), "all that was begun was finished"
    assert end(thumbnails(many.uri(), "-y", "--json"))["made"] == told["left"]


def test_a_second_ctrl_c_ends_it_at_once_and_leaves_whole_thumbnails(many: Bucket) -> None:
    with begun(many) as running:
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert running.returncode == 130
    for key, body in bodies(many).items():
        if "_thumb" in key:
            assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) is not None


def test_who_reads_no_further_ends_it(many: Bucket) -> None:
    with begun(many) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()
        assert running.wait() == 141


def test_a_list_with_a_name_that_nothing_has(bucket: Bucket, tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text(f"{GOOD[0]}\ngone.jpg\n")
    done = thumbnails("--from", rows, "--prefix", bucket.uri("photos/"), "-y", "--max-failures", "1")
    assert done.code == 1
    assert "missing" in done.err
    assert "gone.jpg" in done.err
    assert len([key for key in bodies(bucket) if "_thumb" in key]) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--suffix", "_thumb.gif"], ".gif"),
        (["--suffix", "a/b.jpg"], "--suffix"),
        (["--max-side", "0"], "--max-side"),
        (["--quality", "101"], "--quality"),
        (["--metadata-only"], "--metadata"),
        (["--to", "s3://x/", "-o", "y"], "--output"),
        (["--to", "/tmp/x"], "--to"),
        ([], "--yes"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_made(bucket: Bucket, arguments: list[str], word: str) -> None:
    done = thumbnails(bucket.uri("photos/"), *arguments)
    assert (done.code, word in done.err) == (2, True), done.err
    assert set(bodies(bucket)) == {f"photos/{key}" for key in PHOTOGRAPHS}
