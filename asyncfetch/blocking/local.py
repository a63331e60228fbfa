"""A local path for whatever has a name: objects of S3, of the web, and files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.blocking.shared import choose
from asyncfetch.origins.file import stat_files
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    from asyncfetch.blocking.fetcher import Fetcher


@dataclass(frozen=True, slots=True)
class LocalResource:
    """Where the bytes of something lie on this machine.

    `path` may be read, not written. `from_cache` says that an object was in the cache already; a local file never is.
    `source` is the URI or path that was asked for, as text.
    """

    path: Path
    from_cache: bool
    source: str


def local_path(
    uri: str | os.PathLike[str] | Location, *, fetcher: Fetcher | None = None, s3_client: object = None
) -> LocalResource:
    """Brings an object of S3 or of the web to local disk, or finds it there; a local file is taken where it lies.

    `fetcher` is the one to work with, else one that all such calls share; `s3_client` a client or session of boto3 that
    lends its credentials, region and endpoint. The path is valid until the fetcher closes, the shared one's until the
    program ends. Raises an `OriginError` when it cannot be had, `InvalidURI` for what names nothing.
    """
    location = uri if isinstance(uri, Location) else parse(uri)
    source = str(uri) if isinstance(uri, Location) else os.fspath(uri)
    if location.scheme == "file":
        (found,) = stat_files([location])
        if isinstance(found, Exception):
            raise found
        return LocalResource(Path(location.key), False, source)
    entry = choose(fetcher, s3_client=s3_client).fetch(location)
    return LocalResource(entry.path, entry.from_cache, source)
