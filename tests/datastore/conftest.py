"""Stores to test: in a directory, and in buckets of servers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asyncfetch import Access, CachePolicy, Settings
from asyncfetch.datastore import DataStore
from tests.servers import Server, s3_client

WHERE = ["directory", "moto", "rclone"]


def settings_for(server: Server | None, cache_dir: Path) -> Settings:
    endpoint = None if server is None else server.endpoint_url
    return Settings(access=Access(endpoint_url=endpoint, region="us-east-1"), cache=CachePolicy(cache_dir=cache_dir))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Settings]:
    """Where a new store can be, as a URI, and how it is reached. Its server is the test's parameter."""
    where = getattr(request, "param", "directory")
    if where == "directory":
        return str(tmp_path / "store"), settings_for(None, tmp_path / "cache")
    server: Server = request.getfixturevalue(where)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_access_key)
    bucket = f"store-{uuid.uuid4().hex[:12]}"
    s3_client(server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/team", settings_for(server, tmp_path / "cache")


@pytest.fixture
async def store(place: tuple[str, Settings]) -> AsyncIterator[DataStore]:
    uri, settings = place
    async with DataStore.at(uri, settings=settings) as store:
        yield store


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """Where a test leaves what is to be closed after it."""
    async with AsyncExitStack() as opened:
        yield opened


everywhere = pytest.mark.parametrize("place", WHERE, indirect=True)
on_disk_and_rclone = pytest.mark.parametrize("place", ["directory", "rclone"], indirect=True)  # moto is slow
on_moto = pytest.mark.parametrize("place", ["moto"], indirect=True)
