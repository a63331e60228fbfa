"""Where thumbnails go: beside their originals, under another prefix, into a directory; over nothing but our own."""

from __future__ import annotations

import asyncio
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import quote, unquote

from asyncfetch.cache.digests import digest_of
from asyncfetch.errors import ObjectError, ObjectNotFound, PreconditionFailed, UsageError
from asyncfetch.jobs.directory import Source
from asyncfetch.jobs.layout import STATE
from asyncfetch.jobs.matching import below
from asyncfetch.jobs.record import Outcome
from asyncfetch.uris import parse, s3

if TYPE_CHECKING:
    from asyncfetch.jobs import Directory, Layout, Record
    from asyncfetch.origins.control import Control

# What a thumbnail's own metadata say: its original, the ETag that had, and how it was made.
_OF, _ETAG, _AS = "asyncfetch-thumbnail-of", "asyncfetch-original-etag", "asyncfetch-made-as"
_MOST_NAME = 1000  # bytes; all metadata of an object may have 2 KB (AWS: "Editing object metadata")


class NotOurs(ObjectError):
    """Raised for a thumbnail in whose place lies what is not ours to write over. It stays as it is."""

    hint = "Choose another --suffix or --to, or move it away."


class Wish(NamedTuple):
    """A thumbnail to be made: of which original, where, and whether something lies there."""

    uri: str
    target: str  # a URI, or a path below the directory
    there: bool


class Target(Protocol):
    """Where thumbnails go."""

    def name(self, uri: str) -> str:
        """What the thumbnail of an object is called there."""
        ...

    def is_made(self, uri: str) -> bool:
        """Whether an object is taken for a thumbnail, by its name, where both are listed together."""
        ...

    async def put(self, wish: Wish, body: bytes, etag: str | None) -> bool:
        """Writes a thumbnail of the original with that ETag, whole or not at all. False: it was there already."""
        ...


class Beside:
    """The bucket of the originals, or with `to` any prefix: names are those of the originals, with another ending.

    `made_as` says how they are made. With `again` also what is there and of the same original is written anew.
    Raises `UsageError` where thumbnails would lie among what they are made of.
    """

    def __init__(
        self, control: Control, prefix: str, suffix: str, *, to: str | None, made_as: str, again: bool = False
    ) -> None:
        self._control, self._suffix, self._made_as, self._again = control, suffix, made_as, again
        self._cut = below(prefix)
        self.to: str | None = (
            None  # the prefix that is listed for what is there, None where it is that of the originals
        )
        if to is None:
            if parse(prefix).scheme != "s3":
                raise UsageError(f"{prefix} cannot be written to", remedy="Name a place: --to s3://… or -o DIR.")
            return
        place = parse(to)
        if place.scheme != "s3":
            raise UsageError(f"--to {to} is no prefix in S3", remedy="For a directory of this machine say -o DIR.")
        self.to = str(place if place.key.endswith("/") or not place.key else place._replace(key=f"{place.key}/"))
        if str(parse(prefix)).startswith(self.to):
            raise UsageError(
                f"--to {to} has the originals in it",
                remedy="Leave it out to write beside them, or name another prefix.",
            )

    def name(self, uri: str) -> str:
        """What the thumbnail of an object is called."""
        if self.to is None:
            place = parse(uri)
            return str(s3(place.container, _renamed(place.key, self._suffix)))
        return self.to + _renamed(self._cut(uri), self._suffix)

    def is_made(self, uri: str) -> bool:
        """By its ending where thumbnails lie beside originals, else by the prefix."""
        return uri.endswith(self._suffix) if self.to is None else uri.startswith(self.to)

    async def put(self, wish: Wish, body: bytes, etag: str | None) -> bool:
        """Writes it where nothing is, or over a thumbnail of the same original, and says whether it did.

        Where another job was quicker, that one's stays. Raises `NotOurs` and `OriginError`s.
        """
        place = parse(wish.target)
        about = {_OF: _short(wish.uri), _ETAG: etag or "", _AS: self._made_as}
        if not wish.there:
            try:
                await self._control.put(place, body, metadata=about, if_none_match="*")
                return True
            except PreconditionFailed:
                pass  # it is there by now
        try:
            found = await self._control.head(place)
        except ObjectNotFound:  # or not any more
            await self._control.put(place, body, metadata=about)
            return True
        told = found.metadata
        if _OF not in told:
            raise NotOurs(wish.target, f"lies where the thumbnail of {wish.uri} would, and is none that we made")
        if told[_OF] != about[_OF]:
            raise NotOurs(wish.target, f"is the thumbnail of {unquote(told[_OF])}, and not of {wish.uri}")
        if told == about and not (self._again and wish.there):
            return False
        try:
            await self._control.put(place, body, metadata=about, if_match=found.stat.etag)
        except PreconditionFailed:
            return False
        return True


class Inside:
    """A directory, with the ledger of what was written there."""

    def __init__(self, directory: Directory, record: Record, layout: Layout, prefix: str) -> None:
        self.directory, self.record = directory, record
        self._layout, self._cut = layout, below(prefix)
        self._one = asyncio.Lock()  # a directory is used by one thread at a time

    def name(self, uri: str) -> str:
        """The path below the directory."""
        return self._layout.path(self._cut(uri))

    def is_made(self, uri: str) -> bool:
        """What is listed is elsewhere."""
        return False

    def is_there(self, outcome: Outcome) -> bool:
        """Whether a file is as the ledger says that it was written. Blocks."""
        assert outcome.path is not None
        found = self.directory.look(outcome.path)
        if found is None or found.size != outcome.size or outcome.digest is None:
            return False
        return found.stamp == outcome.stamp or self.directory.digest(outcome.path, outcome.digest) == outcome.digest

    async def put(self, wish: Wish, body: bytes, etag: str | None) -> bool:
        """Writes a file, beside what is not ours, and its line in the ledger. Raises `OSError`."""
        async with self._one:
            await asyncio.to_thread(self._place, wish, body, etag)
        return True

    def _place(self, wish: Wish, body: bytes, etag: str | None) -> None:
        with TemporaryFile(dir=self.directory.root / STATE) as file:
            file.write(body)
            file.flush()
            digest = digest_of(memoryview(body), "blake3")
            source = Source("", file.fileno(), digest, shared=False)
            placed = self.directory.place(source, wish.target, wish.uri, own=wish.there)
        self.record.add([Outcome(wish.uri, placed.path, placed.size, digest, etag, placed.stamp)])


def _renamed(key: str, suffix: str) -> str:
    folder, slash, name = key.rpartition("/")
    stem, _, _ = name.rpartition(".")
    return folder + slash + (stem or name) + suffix


def _short(uri: str) -> str:
    """A URI as metadata can hold it, which are ASCII; what is too long for that is known by its digest."""
    quoted = quote(uri, safe="/:@!$&'()*+,;=~")
    return quoted if len(quoted) <= _MOST_NAME else digest_of(memoryview(uri.encode()), "blake3")
