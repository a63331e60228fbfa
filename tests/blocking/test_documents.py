"""JSON from wherever it lies, bounded, and with errors that say which document."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from asyncfetch.blocking import Fetcher, get_json, get_json_s3, get_json_url
from asyncfetch.errors import InvalidURI, NotJSON, ObjectNotFound, TooLarge, UsageError
from asyncfetch.uris import s3
from tests.servers import rclone_http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.objects import Bucket

DOCUMENT = {"a": [1, 2.5, None, "ü"]}
TEXT = json.dumps(DOCUMENT, ensure_ascii=False)


@pytest.fixture
def fetcher(cache_dir: Path) -> Iterator[Fetcher]:
    with Fetcher(cache_dir=cache_dir) as opened:
        yield opened


def test_a_document_from_s3_the_web_and_a_file(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    uri = empty_bucket.put("a.json", TEXT.encode())
    empty_bucket.put("?versionId=1", TEXT.encode("utf-16"))
    (tmp_path / "a.json").write_bytes(TEXT.encode())
    with rclone_http(tmp_path) as url:
        assert get_json_url(f"{url}/a.json", fetcher=fetcher) == DOCUMENT
        assert get_json(f"{url}/a.json", fetcher=fetcher) == DOCUMENT
    for name in (uri, tmp_path / "a.json", str(tmp_path / "a.json"), s3(empty_bucket.name, "?versionId=1")):
        assert get_json(name, fetcher=fetcher) == DOCUMENT
    fetcher.fetch(uri)
    empty_bucket.server.reset_counts()
    assert get_json(uri, fetcher=fetcher) == DOCUMENT
    assert empty_bucket.requests() == 0, "it is in the cache, and fresh"


def test_a_document_by_bucket_and_key(empty_bucket: Bucket, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    empty_bucket.put("a?versionId=1", TEXT.encode())
    assert get_json_s3(empty_bucket.name, "a?versionId=1", s3_client=empty_bucket.client) == DOCUMENT
    empty_bucket.client.put_object_acl(Bucket=empty_bucket.name, Key="a?versionId=1", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert get_json_s3(empty_bucket.name, "a?versionId=1", anonymous=True) == DOCUMENT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "it is empty"),
        (b'{"secret": 1,}', "line 1, column"),
        (b"secret", "Expecting value in line 1"),
        (b"\xff\xfe\xff", "no text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_not_json_is_named_and_not_quoted(
    fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path, body: bytes, message: str
) -> None:
    (tmp_path / "x.json").write_bytes(body)
    for name in (empty_bucket.put("x.json", body), str(tmp_path / "x.json")):
        with pytest.raises(NotJSON, match=message) as raised:
            get_json(name, fetcher=fetcher)
        assert "x.json" in raised.value.uri
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None, "an exception of json's holds the whole document"
        assert isinstance(pickle.loads(pickle.dumps(raised.value)), ValueError)


def test_size_is_bounded(fetcher: Fetcher, empty_bucket: Bucket) -> None:
    uri = empty_bucket.put("a.json", b"[" + b" " * 98 + b"]")
    assert get_json(uri, fetcher=fetcher, max_bytes=100) == []
    for _ in range(2):
        with pytest.raises(TooLarge, match=r"a\.json: it has more than 99 bytes.*max_bytes"):
            get_json(uri, fetcher=fetcher, max_bytes=99)
        fetcher.fetch(uri)  # the same holds for what is in the cache
    with pytest.raises(UsageError, match="max_bytes"):
        get_json(uri, fetcher=fetcher, max_bytes=0)


@pytest.mark.parametrize("url", ["s3://bucket/a", "/tmp/a", "https://", None])
def test_only_a_url_is_a_url(url: Any) -> None:
    with pytest.raises(InvalidURI, match="no URL"):
        get_json_url(url)


def test_what_is_missing_is_named(fetcher: Fetcher, empty_bucket: Bucket, tmp_path: Path) -> None:
    for name in (empty_bucket.uri("gone.json"), tmp_path / "gone.json"):
        with pytest.raises(ObjectNotFound, match=r"gone\.json"):
            get_json(name, fetcher=fetcher)
