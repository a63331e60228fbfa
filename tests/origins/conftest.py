"""The pair of origin and place that a conformance test runs with, and origins of any settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.origins.control import Control
from asyncfetch.origins.http import HTTPOrigin
from asyncfetch.origins.s3 import S3Origin
from asyncfetch.settings import Access, NetworkPolicy, Settings
from tests.origins.places import PAIRS, DiskPlace, Pair, Place, PublicBucket, S3Place, Site
from tests.origins.scripts import KEY_ID, SECRET
from tests.origins.shelf import Shelf
from tests.servers import rclone_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from asyncfetch.origins import Origin
    from tests.servers import Certificate, Server


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


@pytest.fixture
def place(pair: Pair, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if pair.server == "disk":
        return DiskPlace(tmp_path)
    if pair.server == "site":
        return Site(*request.getfixturevalue("site"))
    server: Server = request.getfixturevalue(pair.server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_access_key)
    if pair.tls:
        front: Server = request.getfixturevalue(f"{pair.server}_tls")
        authority: Certificate = request.getfixturevalue("tls_certificate")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.authority))
        return S3Place(server, pair.can, front.endpoint_url)
    return PublicBucket(server) if pair.make is HTTPOrigin else S3Place(server, pair.can)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A web server for files, and the directory that they lie in."""
    directory = tmp_path_factory.mktemp("site")
    with rclone_http(directory) as url:
        yield url, directory


@pytest.fixture(scope="session")
def crowded() -> dict[str, Place]:
    """Places of a thousand objects by server, to be filled once and read by every origin."""
    return {}


@pytest_asyncio.fixture
async def origin(pair: Pair, place: Place) -> AsyncIterator[Origin]:
    origin = pair.make(place.settings())
    yield origin
    await origin.aclose()


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Callable[..., BotoOrigin]]:
    """Opens origins of given settings, and closes them."""
    origins: list[BotoOrigin] = []

    def open(endpoint_url: str | None = None, *, network: NetworkPolicy | None = None, **access: Any) -> BotoOrigin:
        origin = BotoOrigin(
            Settings(access=Access(endpoint_url=endpoint_url, **access), network=network or NetworkPolicy())
        )
        origins.append(origin)
        return origin

    yield open
    for origin in origins:
        await origin.aclose()


@pytest_asyncio.fixture
async def native() -> AsyncIterator[Callable[..., S3Origin]]:
    """Opens native origins of given settings, the reference behind them, and closes both."""
    origins: list[S3Origin] = []

    def open(endpoint_url: str | None = None, *, network: NetworkPolicy | None = None, **access: Any) -> S3Origin:
        settings = Settings(access=Access(endpoint_url=endpoint_url, **access), network=network or NetworkPolicy())
        origins.append(S3Origin(settings, partial(BotoOrigin, settings)))
        return origins[-1]

    yield open
    for origin in origins:
        await origin.aclose()


@pytest_asyncio.fixture
async def web() -> AsyncIterator[HTTPOrigin]:
    """An origin of the web."""
    origin = HTTPOrigin(Settings(network=NetworkPolicy(connect_timeout=5, read_timeout=5)))
    yield origin
    await origin.aclose()


@pytest_asyncio.fixture
async def control() -> AsyncIterator[Callable[..., Control]]:
    """Opens control planes of given settings, and closes them."""
    planes: list[Control] = []

    def open(endpoint_url: str | None = None, *, network: NetworkPolicy | None = None, **access: Any) -> Control:
        settings = Settings(access=Access(endpoint_url=endpoint_url, **access), network=network or NetworkPolicy())
        planes.append(Control(settings))
        return planes[-1]

    yield open
    for plane in planes:
        await plane.aclose()


@pytest.fixture
def shelf(server: Server) -> Shelf:
    """A new bucket on the server that `needs` chose."""
    return Shelf(server)
