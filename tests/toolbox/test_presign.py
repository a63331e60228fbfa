"""URLs for objects: opened by a plain client, from each server that runs here."""

from __future__ import annotations

import asyncio
import logging
import urllib.error
import urllib.request
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import Credentials

from asyncfetch import Fetcher
from asyncfetch.errors import InvalidURI, NoCredentials, UsageError
from asyncfetch.settings import Access
from asyncfetch.toolbox import PresignedURL, presign
from asyncfetch.uris import s3
from tests.origins.shelf import Shelf
from tests.servers import Server, needs

if TYPE_CHECKING:
    from pathlib import Path


async def made(fetcher: Fetcher, *names: Any, **options: Any) -> list[PresignedURL]:
    async with fetcher, aclosing(presign(fetcher, names, **options)) as urls:
        return [url async for url in urls]


async def opened(url: str, **request: Any) -> tuple[bytes, dict[str, str]]:
    def open() -> tuple[bytes, dict[str, str]]:
        with urllib.request.urlopen(urllib.request.Request(url, **request)) as answer:
            return answer.read(), {name.lower(): value for name, value in answer.headers.items()}

    return await asyncio.to_thread(open)


@pytest.fixture
def fetcher(server: Server, cache_dir: Path) -> Fetcher:
    return Fetcher(cache_dir=cache_dir, endpoint_url=server.endpoint_url)


@needs()
async def test_a_url_opens_without_credentials(server: Server, fetcher: Fetcher) -> None:
    shelf = Shelf(server)
    keys = ["a.txt", "photos/ä b+c&d=e%20.txt"]
    for key in keys:
        shelf.client.put_object(Bucket=shelf.name, Key=key, Body=key.encode())
    urls = await made(fetcher, *[(str(shelf.at(key)), "a label") for key in keys], expires=60)
    assert [url.uri for url in urls] == [str(shelf.at(key)) for key in keys]
    for key, url in zip(keys, urls, strict=True):
        assert (await opened(url.url))[0] == key.encode()
        assert timedelta(0) < url.expires - datetime.now(UTC) <= timedelta(seconds=60)


@needs("checks_signatures")
async def test_a_url_that_was_changed_opens_nothing(server: Server, fetcher: Fetcher) -> None:
    shelf = Shelf(server)
    for key in ("mine", "other"):
        shelf.client.put_object(Bucket=shelf.name, Key=key, Body=b"")
    (url,) = await made(fetcher, shelf.at("mine"))
    for changed in (url.url.replace("/mine?", "/other?"), url.url.replace("Expires=3600", "Expires=3601")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            await opened(changed)
        assert caught.value.code == 403
        caught.value.close()


@needs()
async def test_a_url_to_write_by(server: Server, fetcher: Fetcher) -> None:
    shelf = Shelf(server)
    (url,) = await made(fetcher, shelf.at("new"), method="PUT", content_type="image/webp")
    await opened(url.url, data=b"body", method="PUT", headers={"Content-Type": "image/webp"})
    assert shelf.body("new") == b"body"


@needs("if_match")
async def test_what_a_browser_is_told(server: Server, fetcher: Fetcher) -> None:
    shelf = Shelf(server)
    shelf.client.put_object(Bucket=shelf.name, Key="k", Body=b"")
    (url,) = await made(
        fetcher, shelf.at("k"), content_type="text/plain", download="Größe.txt", cache_control="no-store"
    )
    headers = (await opened(url.url))[1]
    assert headers["content-type"].startswith("text/plain")
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.txt"
    assert headers["cache-control"] == "no-store"


@needs("versions")
async def test_a_version_has_a_url_of_its_own(server: Server, fetcher: Fetcher) -> None:
    shelf = Shelf(server)
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    first = shelf.client.put_object(Bucket=shelf.name, Key="k", Body=b"first")["VersionId"]
    shelf.client.put_object(Bucket=shelf.name, Key="k", Body=b"second")
    (url,) = await made(fetcher, s3(shelf.name, "k", first))
    assert (await opened(url.url))[0] == b"first"


@needs("if_match")
async def test_a_bucket_that_the_signer_leaves_to_botocore(server: Server, cache_dir: Path) -> None:
    shelf = Shelf(server)
    shelf.client.put_object(Bucket=shelf.name, Key="k", Body=b"body")
    access = Access(endpoint_url=server.endpoint_url, origin="boto")
    (url,) = await made(Fetcher(cache_dir=cache_dir, access=access), shelf.at("k"), content_type="text/plain")
    body, headers = await opened(url.url)
    assert body == b"body"
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("names", "options", "error"),
    [
        (["s3://bucket/k"], {"expires": 604_801}, UsageError),
        (["s3://bucket/k"], {"method": "DELETE"}, UsageError),
        (["s3://bucket/k"], {"method": "PUT", "download": True}, UsageError),
        (["s3://bucket/"], {}, InvalidURI),
        (["s3://bucket/k", "/a/file"], {}, InvalidURI),
    ],
)
async def test_what_cannot_be_presigned(
    names: list[str], options: dict[str, Any], error: type[Exception], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S")
    with pytest.raises(error):
        await made(Fetcher(cache_dir=cache_dir, endpoint_url="http://127.0.0.1:9", region="x"), *names, **options)


async def test_who_cannot_presign(cache_dir: Path) -> None:
    for error, access in (
        (UsageError, {"anonymous": True}),
        (UsageError, {"customer_key": bytes(32)}),
        (NoCredentials, {}),
    ):
        fetcher = Fetcher(cache_dir=cache_dir, access=Access(endpoint_url="http://127.0.0.1:9", **access))
        with pytest.raises(error):
            await made(fetcher, "s3://bucket/k")


async def test_a_session_that_ends_sooner_is_warned_of(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=2)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "S",
        "AWS_SESSION_TOKEN": "T",
        "AWS_CREDENTIAL_EXPIRATION": soon.isoformat(),
    }.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, "asyncfetch"):
        fetcher = Fetcher(cache_dir=cache_dir, endpoint_url="http://127.0.0.1:9", region="us-east-1")
        (url,) = await made(fetcher, "s3://bucket/k", expires=86_400)
    assert "with the session that signs them" in caplog.text
    assert abs(url.expires - soon) < timedelta(seconds=30)
    assert "X-Amz-Security-Token=T" in url.url


async def test_the_chain_runs_once_for_many_buckets(cache_dir: Path) -> None:
    class Lending:
        asked = 0

        def get_credentials(self) -> Any:
            self.asked += 1
            return Credentials("AKIDOFTHETESTS", "secretOfTheTests")

    lender = Lending()
    access = Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", credentials=lender)
    names = [f"s3://bucket-{number}/key" for number in range(5)]
    assert len(await made(Fetcher(cache_dir=cache_dir, access=access), *names)) == 5
    assert lender.asked == 1
