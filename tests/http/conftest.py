"""Both loops for every test that runs on one, and a server plain and over TLS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import trustme
import uvloop

from tests.http.helpers import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # uvloop lets no alarm in while it waits: a test that hangs there is ended with its process, or never.
    for item in items:
        if "uvloop" in item.name:
            item.add_marker(pytest.mark.timeout(method="thread"), append=False)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def channels(authority: trustme.CA) -> Mapping[str, Channel]:
    return {"plain": Channel(None, None), "tls": Channel.over_tls(authority, authority.issue_cert("127.0.0.1"))}


@pytest.fixture(params=["plain", "tls"])
def channel(request: pytest.FixtureRequest, channels: Mapping[str, Channel]) -> Channel:
    return channels[request.param]


@pytest.fixture
def plain(channels: Mapping[str, Channel]) -> Channel:
    return channels["plain"]


@pytest.fixture
def tls(channels: Mapping[str, Channel]) -> Channel:
    return channels["tls"]
