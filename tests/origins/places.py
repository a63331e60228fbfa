"""Origins and the places they read from: one line for each pair that must pass the conformance suite."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import pytest

from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.origins.file import FileOrigin
from asyncfetch.origins.http import HTTPOrigin
from asyncfetch.origins.s3 import S3Origin
from asyncfetch.settings import Access, Settings
from asyncfetch.uris import Location
from tests.servers import DISK, FILES, MOTO, RCLONE, WEB, Capabilities, Server, put_object, s3_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.origins import Origin


class Place(Protocol):
    """Somewhere objects lie."""

    @property
    def can(self) -> Capabilities: ...

    def put(self, key: str, body: bytes) -> str | None:
        """Stores an object and gives its version, where there are versions."""
        ...

    def locate(self, key: str, version: str | None = None) -> Location: ...

    def nowhere(self, key: str) -> Location:
        """Where an object is in a bucket or directory that does not exist."""
        ...

    def settings(self) -> Settings: ...


class S3Place:
    """A new bucket, with versions where the server has them."""

    def __init__(self, server: Server, can: Capabilities, endpoint_url: str | None = None) -> None:
        self.endpoint_url = endpoint_url or server.endpoint_url  # where it is read; it is written at the server itself
        self.can = can
        self.server = server
        self.bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client = s3_client(server)
        self.client.create_bucket(Bucket=self.bucket)
        if can.versions:
            self.client.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(self, key: str, body: bytes) -> str | None:
        return put_object(self.server, self.bucket, key, body)

    def locate(self, key: str, version: str | None = None) -> Location:
        return Location("s3", self.bucket, key, version)

    def nowhere(self, key: str) -> Location:
        return Location("s3", f"no-{self.bucket}", key)

    def settings(self) -> Settings:
        return Settings(access=Access(endpoint_url=self.endpoint_url))


class DiskPlace:
    """A new directory."""

    can = DISK

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, key: str, body: bytes) -> None:
        path = self.directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def locate(self, key: str, version: str | None = None) -> Location:
        return Location("file", "", f"{self.directory}/{key}", version)

    def nowhere(self, key: str) -> Location:
        return Location("file", "", f"{self.directory}/missing/{key}")

    def settings(self) -> Settings:
        return Settings()


class PublicBucket:
    """A new bucket of moto's, whose objects anybody may read by their URLs."""

    can = WEB

    def __init__(self, server: Server) -> None:
        self.server = server
        self.host = server.endpoint_url.removeprefix("http://")
        self.bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client = s3_client(server)
        self.client.create_bucket(Bucket=self.bucket)

    def put(self, key: str, body: bytes) -> None:
        put_object(self.server, self.bucket, key, body, **{"x-amz-acl": "public-read"})

    def locate(self, key: str, version: str | None = None) -> Location:
        return Location("http", self.host, f"/{self.bucket}/{quote(key)}", version)

    def nowhere(self, key: str) -> Location:
        return Location("http", self.host, f"/no-{self.bucket}/{quote(key)}")

    def settings(self) -> Settings:
        return Settings()


class Site:
    """A new directory of a web server that tells dates, and no ETags. Its files are all two minutes old or so."""

    can = FILES

    def __init__(self, url: str, directory: Path) -> None:
        self.name = uuid.uuid4().hex
        self.directory = directory / self.name
        self.directory.mkdir()
        self.host = url.removeprefix("http://")
        self.age = 200  # seconds; what is put later is younger

    def put(self, key: str, body: bytes) -> None:
        path = self.directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self.age -= 2
        moment = time.time() - max(self.age, 70)
        os.utime(path, (moment, moment))

    def locate(self, key: str, version: str | None = None) -> Location:
        return Location("http", self.host, f"/{self.name}/{quote(key)}", version)

    def nowhere(self, key: str) -> Location:
        return Location("http", self.host, f"/{self.name}/missing/{quote(key)}")

    def settings(self) -> Settings:
        return Settings()


@dataclass(frozen=True, slots=True)
class Pair:
    """An origin and what it reads from: a fixture of the session, or `disk`."""

    make: Callable[[Settings], Origin]
    server: str
    can: Capabilities
    tls: bool = False


def _native(settings: Settings) -> Origin:
    return S3Origin(settings, partial(BotoOrigin, settings))


PAIRS = {
    "boto-moto": Pair(BotoOrigin, "moto", MOTO),
    "boto-rclone": Pair(BotoOrigin, "rclone", RCLONE),
    "s3-moto": Pair(_native, "moto", MOTO),
    "s3-rclone": Pair(_native, "rclone", RCLONE),
    "boto-rclone-tls": Pair(BotoOrigin, "rclone", RCLONE, tls=True),
    "s3-moto-tls": Pair(_native, "moto", MOTO, tls=True),
    "s3-rclone-tls": Pair(_native, "rclone", RCLONE, tls=True),
    "http-moto": Pair(HTTPOrigin, "moto", WEB),
    "http-rclone": Pair(HTTPOrigin, "site", FILES),
    "file-disk": Pair(lambda settings: FileOrigin(), "disk", DISK),
}


def conforming(*capabilities: str) -> pytest.MarkDecorator:
    """Runs a test that takes `place` and `origin` with each pair whose server has all of these capabilities."""
    able = [name for name, pair in PAIRS.items() if all(getattr(pair.can, word) for word in capabilities)]
    assert able, f"nothing can do all of {capabilities}"
    return pytest.mark.parametrize("pair", able, indirect=True)
