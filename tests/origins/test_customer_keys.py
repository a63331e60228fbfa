"""Objects that S3 encrypted with a key of the customer's: who gets to see that key."""

from __future__ import annotations

import hashlib
import logging
import pickle
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

import asyncfetch
from asyncfetch.errors import RequestRefused, UsageError
from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.origins.endpoints import NotNative, Reached, resolve
from asyncfetch.settings import Access, Settings
from asyncfetch.testing import ScriptedServer, answer
from tests.origins.scripts import OBJECT, head_of, listed, read, refusing

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.origins import Origin

KEY = bytes(range(64, 96))
PREFIX = "x-amz-server-side-encryption-customer-"
EXPECTED = {
    "algorithm": "AES256",
    "key": b64encode(KEY).decode(),
    "key-md5": b64encode(hashlib.md5(KEY).digest()).decode(),
}
EMPTY_PAGE = answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

pytestmark = pytest.mark.usefixtures("signed")


@pytest.fixture(params=["native", "opened"])
def make(request: pytest.FixtureRequest) -> Callable[..., Origin]:
    """Opens origins: the native one, and the reference."""
    made: Callable[..., Origin] = request.getfixturevalue(request.param)
    return made


def shows_the_key(text: str) -> bool:
    return any(form in text for form in (repr(KEY), KEY.decode(), EXPECTED["key"], KEY.hex()))


async def test_the_key_goes_with_what_reads_an_object_and_with_nothing_else(
    make: Callable[..., Origin], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asyncfetch")
    denied = answer(status="403 Forbidden")
    part = answer(b"b", status="206 Partial Content", headers=["Content-Range: bytes 0-0/4"])
    async with ScriptedServer([answer(b"body"), head_of(answer(b"body")), head_of(denied), part, EMPTY_PAGE]) as server:
        origin = make(server.url, customer_key=KEY)
        assert await read(origin) == b"body"
        assert [(await origin.stat(OBJECT)).size for _ in range(2)] == [4, 4]
        assert await listed(origin) == []
        *reads, listing = server.requests
    assert [request.method for request in reads] == ["GET", "HEAD", "HEAD", "GET"]
    for request in reads:
        assert {name: request.header(PREFIX + name) for name in EXPECTED} == EXPECTED
        assert all(PREFIX + name in (request.header("authorization") or "") for name in EXPECTED)
    assert PREFIX.encode() not in listing.head
    assert not any(shows_the_key(record.getMessage()) for record in caplog.records if "asyncfetch" in record.name)


async def test_a_refusal_does_not_show_it(make: Callable[..., Origin]) -> None:
    refused = refusing(
        "InvalidRequest", status="400 Bad Request", more=f"<ArgumentValue>{EXPECTED['key']}</ArgumentValue>"
    )
    async with ScriptedServer([refused]) as server:
        with pytest.raises(RequestRefused) as caught:
            await read(make(server.url, customer_key=KEY))
    assert not shows_the_key(f"{caught.value} {caught.value!r} {vars(caught.value)} {pickle.dumps(caught.value)!r}")


def test_settings_do_not_show_it_and_take_it_along() -> None:
    settings = Settings(access=Access(customer_key=KEY), buckets={"closed": Access(customer_key=KEY)})
    assert not shows_the_key(f"{settings!r} {settings} {settings.access!r} {asyncfetch.Fetcher(settings).settings}")
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"x", KEY.decode(), bytearray(KEY)])
def test_what_is_no_key_is_refused_unseen(key: Any) -> None:
    with pytest.raises(UsageError, match="32 bytes") as caught:
        Access(customer_key=key)
    assert not shows_the_key(str(caught.value))


@pytest.mark.parametrize("url", ["http://storage.example", "http://10.0.0.1:9000", "http://localhost.example:9000"])
async def test_it_is_not_sent_for_everybody_to_read(url: str) -> None:
    access = Access(endpoint_url=url, customer_key=KEY, region="us-east-1")
    with pytest.raises(UsageError, match="for everybody to read"):
        resolve("bucket", access, None)
    origin = BotoOrigin(Settings(access=access))
    try:
        with pytest.raises(UsageError, match="for everybody to read"):
            await read(origin)
    finally:
        await origin.aclose()


@pytest.mark.parametrize("url", [None, "https://storage.example", "http://127.0.0.1:9000", "http://[::1]:9000"])
def test_it_is_sent_over_tls_and_to_this_machine(url: str | None) -> None:
    assert isinstance(resolve("bucket", Access(endpoint_url=url, customer_key=KEY), "eu-west-1"), Reached)


def test_a_proxy_would_read_it_on_the_way_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example")
    with pytest.raises(UsageError, match="for everybody to read"):
        resolve("bucket", Access(endpoint_url="http://127.0.0.1:9000", customer_key=KEY), None)
    # Through a proxy TLS goes as it is.
    over_tls = resolve("bucket", Access(endpoint_url="https://storage.example", customer_key=KEY), None)
    assert isinstance(over_tls, NotNative)
