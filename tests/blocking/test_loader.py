"""Images by key, one at a time, for datasets that know no asyncio."""

from __future__ import annotations

import logging
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.blocking import S3ImageLoader
from asyncfetch.blocking.memory import Memory
from asyncfetch.errors import BucketNotFound, CredentialsError, InvalidURI, UsageError
from tests.blocking.scripts import program
from tests.servers import s3_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.objects import Bucket
    from tests.servers import Server

PIXELS = np.zeros((8, 10, 3), np.uint8)
PIXELS[..., 0] = 255  # blue, which BGR has first
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY", "DEFAULT_REGION", "DEFAULT_BUCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def loader(empty_bucket: Bucket, cache_dir: Path) -> Iterator[S3ImageLoader]:
    with S3ImageLoader(cache_dir, empty_bucket.name) as opened:
        yield opened


def test_an_image_comes_from_s3_then_from_memory(loader: S3ImageLoader, empty_bucket: Bucket) -> None:
    uri = empty_bucket.put("a/b c.png", PNG)
    first = loader.load_image("a/b c.png")
    assert first is not None
    assert first.dtype == np.uint8
    assert first.tolist() == PIXELS.tolist()
    empty_bucket.server.reset_counts()
    assert loader.load_image("a/b c.png") is first
    assert empty_bucket.requests() == 0
    by_uri = loader.load_image(uri)
    assert by_uri is not None
    assert by_uri.tolist() == PIXELS.tolist()
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_what_is_missing_or_no_image_is_none_and_logged(
    loader: S3ImageLoader, empty_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    for key, body in (("empty.png", b""), ("text.png", b"text"), ("cut.png", PNG[:50])):
        empty_bucket.put(key, body)
    for key in ("missing.png", "empty.png", "text.png", "cut.png"):
        caplog.clear()
        assert loader.load_image(key) is None
        (record,) = caplog.records
        assert (record.levelno, record.name) == (logging.ERROR, "asyncfetch.blocking.loader")
        assert empty_bucket.uri(key) in record.getMessage()


def test_what_concerns_more_than_one_image_is_raised(
    loader: S3ImageLoader, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BucketNotFound):
        loader.load_image("s3://no-such-bucket-anywhere/a.png")
    with pytest.raises(InvalidURI):
        loader.load_image("k" * 2000)
    with S3ImageLoader(cache_dir) as other, pytest.raises(UsageError, match="DEFAULT_BUCKET"):
        other.load_image("a.png")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with S3ImageLoader(cache_dir, "bucket") as other, pytest.raises(CredentialsError):
        other.load_image("a.png")


def test_the_environment_names_keys_region_and_bucket(
    rclone: Server, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(rclone)
    client.create_bucket(Bucket="loading")
    client.put_object(Bucket="loading", Key="a.png", Body=PNG)
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", rclone.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "identity")
    monkeypatch.setenv("S3_ACCESS_KEY", rclone.credentials.access_key_id)
    with pytest.raises(UsageError, match="S3_SECRET_KEY is not set"):
        S3ImageLoader(cache_dir)
    monkeypatch.setenv("S3_SECRET_KEY", rclone.credentials.secret_access_key)
    monkeypatch.setenv("DEFAULT_REGION", "eu-west-3")
    monkeypatch.setenv("DEFAULT_BUCKET", "loading")
    with S3ImageLoader(cache_dir) as loader:
        assert loader.load_image("a.png") is not None
        with pickle.loads(pickle.dumps(loader)) as other:
            assert other.load_image("a.png") is not None
    assert rclone.credentials.secret_access_key.encode() not in pickle.dumps(loader)


def test_a_list_has_the_images_under_a_prefix(loader: S3ImageLoader, empty_bucket: Bucket) -> None:
    for key in ("x/1.jpg", "x/2.PNG", "x/notes.txt", "x/", "y/3.webp", "x/a?versionId=1.jpg"):
        empty_bucket.put(key, b"")
    keys = ["x/1.jpg", "x/2.PNG", "x/a?versionId=1.jpg"]
    assert loader.get_image_list("x/") == keys
    assert loader.get_image_list() == [*keys, "y/3.webp"]
    assert loader.get_image_list(empty_bucket.uri("y/")) == [empty_bucket.uri("y/3.webp")]
    assert loader.get_image_list("none/") == []


def test_prefetching_fills_the_cache(
    loader: S3ImageLoader, empty_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [f"{number}.png" for number in range(5)]
    for key in keys:
        empty_bucket.put(key, PNG + key.encode())
    report = loader.prefetch_images([*keys, *(f"missing-{number}" for number in range(12))])
    assert (report.objects, report.failed) == (5, 12)
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage().startswith("2 more")
    empty_bucket.server.reset_counts()
    assert all(loader.load_image(key) is not None for key in keys)
    assert empty_bucket.requests() == 0


def test_clearing_removes_what_is_old_enough(loader: S3ImageLoader, empty_bucket: Bucket, cache_dir: Path) -> None:
    keys = [f"{number}.png" for number in range(3)]
    for number, key in enumerate(keys):
        empty_bucket.put(key, PNG + bytes([number]))
        loader.load_image(key)
    old, *_ = (path for path in cache_dir.glob("v1/blobs/*/*/*") if path.read_bytes() == PNG + b"\0")
    os.utime(old, (time.time() - 3 * 86_400,) * 2)
    assert loader.clear_cache(older_than_days=2.5) == 1
    assert not old.exists()
    empty_bucket.server.reset_counts()
    assert all(loader.load_image(key) is not None for key in keys)
    assert empty_bucket.bodies() == 1, "the others are there, and memory holds none of them"
    assert loader.clear_cache() == 3
    for days in (-1, float("nan"), True):
        with pytest.raises(UsageError, match="older_than_days"):
            loader.clear_cache(days)


def test_threads_load_together(loader: S3ImageLoader, empty_bucket: Bucket) -> None:
    empty_bucket.put("a.png", PNG)
    with ThreadPoolExecutor(4) as pool:
        assert all(image is not None for image in pool.map(loader.load_image, ["a.png"] * 16))
    assert empty_bucket.bodies() == 1


FORKED = """
import multiprocessing, os, warnings
from asyncfetch.blocking import S3ImageLoader

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

def work(loader):
    print(loader.load_image("a.png").shape, flush=True)

if __name__ == "__main__":
    loader = S3ImageLoader("cache", os.environ["BUCKET"])
    for opened in (False, True):
        if opened:
            loader.load_image("a.png")
        for kind in ("fork", "forkserver"):
            process = multiprocessing.get_context(kind).Process(target=work, args=(loader,))
            process.start()
            process.join()
"""


def test_workers_load_with_a_loader_made_before_them(empty_bucket: Bucket, tmp_path: Path) -> None:
    empty_bucket.put("a.png", PNG)
    (tmp_path / "main.py").write_text(FORKED)
    code = "import runpy; runpy.run_path('main.py', run_name='__main__')"
    assert program(code, tmp_path, BUCKET=empty_bucket.name) == ["(8, 10, 3)"] * 4


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60))), st.integers(1, 100))
def test_memory_holds_what_was_used_last_and_never_too_much(steps: list[tuple[str, int]], limit: int) -> None:
    memory, model = Memory(limit), dict[str, int]()
    for name, size in steps:
        if size == 0:
            found = memory.get(name)
            assert (None if found is None else found.nbytes) == model.get(name)
            if name in model:
                model[name] = model.pop(name)
            continue
        memory.put(name, np.zeros(size, np.uint8))
        model.pop(name, None)
        if size <= limit:
            model[name] = size
        while sum(model.values()) > limit:
            del model[next(iter(model))]
        assert memory.bytes == sum(model.values()) <= limit
    memory.clear()
    assert memory.bytes == 0
    assert memory.get("a") is None
