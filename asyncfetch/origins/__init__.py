"""Where objects are read from: one class per kind, all of one protocol."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.origins.base import ByteRange, Origin, Sink

if TYPE_CHECKING:
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins.checksums import Check
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Settings

__all__ = ["ByteRange", "Origin", "Sink", "check_of", "open_origins"]


def open_origins(settings: Settings, identities: Identities | None = None) -> dict[str, Origin]:
    """The origins of a fetcher, by the scheme that each serves, made on its loop. None has a connection yet.

    `identities` say who signs, and stay open when the origins are closed; without, each origin has its own.
    """
    # Imported here: the network's modules (ssl, xml, email) would double what `import asyncfetch` takes.
    from asyncfetch.origins.boto import BotoOrigin
    from asyncfetch.origins.file import FileOrigin
    from asyncfetch.origins.http import HTTPOrigin
    from asyncfetch.origins.offline import OfflineOrigin
    from asyncfetch.origins.s3 import S3Origin

    if settings.cache.offline:
        offline = OfflineOrigin()
        return {"s3": offline, "file": FileOrigin(), "https": offline, "http": offline}
    web = HTTPOrigin(settings)
    s3 = S3Origin(settings, partial(BotoOrigin, settings, identities), identities)
    return {"s3": s3, "file": FileOrigin(), "https": web, "http": web}


def check_of(stat: ObjectStat) -> Check | None:
    """A check for the body of an object about to come, None where its origin told no checksum."""
    if stat.checksum is None:
        return None
    from asyncfetch.origins.checksums import Check  # here, for few ask for it, and the import takes 1 ms

    return Check(stat.uri, stat.checksum)
