"""Servers that live as long as the session, and an environment in which nothing of the machine's owner is seen."""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest

from asyncfetch.engine import slack
from asyncfetch.engine.slack import Slack, Watcher
from asyncfetch.testing import EmbeddedS3
from tests.objects import Bucket
from tests.servers import behind_tls, certificate, rclone_s3
from tests.soak import EXAMPLES, LONG, MANY_EXAMPLES, SECONDS, SHORT, Soak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Certificate, RunningServer, Server

# A job of a shell's background ignores Ctrl-C, and one of `nohup` the end of its terminal; and so would every program
# that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# On a busy machine an example may take its time. What must not take long has a test of its own.
hypothesis.settings.register_profile("patient", deadline=None, max_examples=EXAMPLES)
hypothesis.settings.register_profile("soaking", deadline=None, max_examples=MANY_EXAMPLES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="repeat what is tried at random many more times")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("soaking" if config.getoption("--soak") else "patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        for item in items:
            if "soak" in getattr(item, "fixturenames", ()) or hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.timeout(SECONDS), append=False)  # before one of its own


def pytest_collection_finish() -> None:
    _keep_what_is_there()


@pytest.fixture(scope="module", autouse=True)
def older_objects_kept() -> Iterator[None]:
    """What a module of tests leaves: clients, models of botocore's, what was imported late."""
    yield
    _keep_what_is_there()


def _keep_what_is_there() -> None:
    """Who counts what is left need not look through hundreds of thousands of older objects each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> Soak:
    """How often to do what is done again and again."""
    return LONG if pytestconfig.getoption("--soak") else SHORT


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes new ones. The factory would look through all that there are for the next number, 8 ms at the end."""
    root, numbers = tmp_path_factory.mktemp("each"), itertools.count()

    def make(name: str) -> Path:
        directory = root / f"{name}-{next(numbers)}"
        directory.mkdir(mode=0o700)
        return directory

    return make


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, directories: Callable[[str], Path]) -> Path:
    return directories(re.sub(r"\W", "_", request.node.name)[:30])


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch: pytest.MonkeyPatch, directories: Callable[[str], Path]) -> None:
    """No AWS settings, no proxies, an empty home; and nobody asks an instance for its credentials."""
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(("AWS_", "ASYNCFETCH_", "XDG_", "BOTO")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(directories("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto() -> Iterator[EmbeddedS3]:
    with EmbeddedS3() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with rclone_s3(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def tls_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def moto_tls(moto: EmbeddedS3, tls_certificate: Certificate) -> Iterator[Server]:
    with behind_tls(moto, tls_certificate) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_tls(rclone: Server, tls_certificate: Certificate) -> Iterator[Server]:
    with behind_tls(rclone, tls_certificate) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server that `needs` chose, its credentials in the environment."""
    chosen: Server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", chosen.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", chosen.credentials.secret_access_key)
    return chosen


@pytest.fixture
def empty_bucket(moto: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket on moto, and an environment in which a fetcher finds it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.credentials.secret_access_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", moto.endpoint_url)
    return Bucket(moto)


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def helpers_join_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the network be waited for from an object's first byte on: all of it may come before the first look."""
    watch = Slack.watch

    def watch_and_look(self: Slack, watcher: Watcher) -> None:
        watch(self, watcher)
        for _ in range(4):  # looks in a row have 16 streams join
            watcher.look(True)

    monkeypatch.setattr(Slack, "watch", watch_and_look)
    monkeypatch.setattr(slack, "HEAP", 1 << 60)
