"""Where thumbnails go: beside their originals, under another prefix, into a directory; over nothing but our own."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from asyncfetch.cache.digests import digest_of
from asyncfetch.errors import InvalidURI, ObjectError, ObjectNotFound, OriginError, PreconditionFailed, UsageError
from asyncfetch.jobs.directory import Source
from asyncfetch.jobs.layout import STATE, apart
from asyncfetch.jobs.record import Outcome
from asyncfetch.presigned import redacted
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    from asyncfetch.jobs import Directory, Layout, Record
    from asyncfetch.origins.control import Control

# What a thumbnail's own metadata say: its original, the ETag that had, and how it was made.
_OF, _ETAG, _AS = "asyncfetch-thumbnail-of", "asyncfetch-original-etag", "asyncfetch-made-as"
_MOST_NAME = 1000  # bytes; all metadata of an object may have 2 KB (AWS: "Editing object metadata")
_TRIES = 4  # of a write whose place others write to and delete from at the same moments


class NotOurs(ObjectError):
    """Raised for a thumbnail in whose place lies what is not ours to write over. It stays as it is."""

    hint = "Choose another --suffix or --to, or move it away."


class Wish(NamedTuple):
    """A thumbnail to be made: of which original, where, and whether something may lie there.

    That says for S3 that it is looked at before anything is written, and in a directory that it is the job's own.
    """

    uri: str
    target: str  # a URI, or a path below the directory
    there: bool


class Written(NamedTuple):
    """Where a thumbnail is, and whether it was written now: else it was there."""

    target: str
    made: bool


class Owner(NamedTuple):
    """Of which original a thumbnail is, in the form that `Beside.short` gives it; None where it is none of ours."""

    of: str | None
    etag: str = ""


class Beside:
    """The bucket of the originals, or with `to` any prefix: names are those of the originals, with another ending.

    `made_as` says how they are made. With `again` also what is there and of the same original is written anew.
    `to` is then the prefix that is listed for what is there, None where it is that of the originals. Raises
    `UsageError` where originals would be taken for thumbnails.
    """

    by_date = True  # what is done is told by the dates of a listing

    def __init__(self, control: Control, suffix: str, *, to: str | None, made_as: str, again: bool = False) -> None:
        self._control, self._suffix, self._made_as, self._again = control, suffix, made_as, again
        self.to: str | None = None
        if to is None:
            if suffix == PurePosixPath(f"x{suffix}").suffix:
                raise UsageError(
                    f"--suffix {suffix} beside originals would take every {suffix} for a thumbnail",
                    remedy=f"Write such as _thumb{suffix}.",
                )
            return
        place = parse(to)
        if place.scheme != "s3":
            raise UsageError(f"--to {to} is no prefix in S3", remedy="For a directory of this machine say -o DIR.")
        self.to = str(place if place.key.endswith("/") or not place.key else place._replace(key=f"{place.key}/"))

    def check(self, prefix: str) -> None:
        """Raises `UsageError` where a prefix of originals cannot be written to, or would be written among."""
        if self.to is None and parse(prefix).scheme != "s3":
            raise UsageError(f"{prefix} cannot be written to", remedy="Name a place: --to s3://… or -o DIR.")
        if self.to is not None and str(parse(prefix)).startswith(self.to):
            raise UsageError(
                f"--to {self.to} has the originals in it",
                remedy="Leave it out to write beside them, or name another prefix.",
            )

    def name(self, uri: str, below: str) -> str:
        """What the thumbnail of an object is called. Raises `UsageError` for an original that is not in S3."""
        if self.to is not None:
            return self.to + _renamed(below.lstrip("/"), self._suffix)
        place = parse(uri)
        if place.scheme != "s3":
            self.check(uri)
        # Not held against what S3 allows: a key that grew too long is the failure of its image.
        return str(Location("s3", place.container, _renamed(place.key, self._suffix)))

    def apart(self, name: str, uri: str) -> str:
        """The name of a thumbnail whose best one another has: with a mark of its original, and the same ending."""
        return apart(name.removesuffix(self._suffix), uri) + self._suffix

    def is_made(self, uri: str) -> bool:
        """Whether an object is taken for a thumbnail: by its ending beside originals, else by the prefix."""
        return uri.endswith(self._suffix) if self.to is None else uri.startswith(self.to)

    @staticmethod
    def short(uri: str) -> str:
        """A URI as metadata can hold it, which are ASCII; what is too long for that is known by its digest."""
        data = uri.encode("utf-8", "surrogatepass")
        quoted = quote(data, safe="/:@!$&'()*+,;=~")
        return quoted if len(quoted) <= _MOST_NAME else digest_of(memoryview(data), "blake3")

    async def owner(self, target: str) -> Owner | None:
        """Of which original a thumbnail is; None where there is none. Raises `OriginError`s."""
        try:
            told = (await self._control.head(parse(target))).metadata
        except ObjectNotFound:
            return None
        return Owner(told.get(_OF), told.get(_ETAG, ""))

    async def put(self, wish: Wish, body: bytes, etag: str | None) -> Written:
        """Writes it where nothing is, or over a thumbnail of the same original or of one that is no more.

        That of another original that is still there stays, and this one gets a name of its own. Where another job was
        quicker, that one's stays. Raises `NotOurs` for what else lies there, and `OriginError`s.
        """
        about = {_OF: self.short(wish.uri), _ETAG: etag or "", _AS: self._made_as}
        made = await self._write(wish.target, wish, body, about, look=wish.there)
        if made is not None:
            return Written(wish.target, made)
        target = self.apart(wish.target, wish.uri)
        made = await self._write(target, wish, body, about, look=True)
        if made is None:
            raise NotOurs(target, f"is a thumbnail of another original, and not of {wish.uri}")
        return Written(target, made)

    async def _write(self, target: str, wish: Wish, body: bytes, about: dict[str, str], *, look: bool) -> bool | None:
        """Whether it wrote, None where the thumbnail of another original lies there."""
        try:
            place = parse(target)
            target.encode()
        except (InvalidURI, UnicodeEncodeError):
            raise InvalidURI(target, "S3 cannot hold this name", remedy="Choose another place or name.") from None
        for _ in range(_TRIES):
            try:
                if not look:
                    await self._control.put(place, body, metadata=about, if_none_match="*")
                    return True
                found = await self._control.head(place)
            except PreconditionFailed:  # it is there by now
                look = True
                continue
            except ObjectNotFound:  # or not any more
                look = False
                continue
            told = found.metadata
            if _OF not in told:
                raise NotOurs(target, f"lies where the thumbnail of {wish.uri} would, and is none that we made")
            if told[_OF] != about[_OF] and await self._lives(told[_OF]):
                return None
            if told == about and not (self._again and wish.there):
                return False
            try:
                await self._control.put(place, body, metadata=about, if_match=found.stat.etag)
            except (PreconditionFailed, ObjectNotFound):  # another was quicker, or it was deleted meanwhile
                continue
            return True
        return False

    async def _lives(self, short: str) -> bool:
        """Whether the original of a thumbnail is still there. In doubt it is."""
        uri = unquote(short, errors="surrogatepass")
        if "://" not in uri or parse(uri).scheme != "s3":
            return True
        try:
            await self._control.head(parse(uri))
        except ObjectNotFound:
            return False
        except OriginError:
            return True
        return True


class Inside:
    """A directory, with the ledger of what was written there."""

    by_date = False  # the ledger has the ETags of the originals

    def __init__(self, directory: Directory, record: Record, layout: Layout) -> None:
        self.directory, self.record = directory, record
        self._layout = layout
        self._one = asyncio.Lock()  # a directory is used by one thread at a time

    def name(self, uri: str, below: str) -> str:
        """The path below the directory."""
        return self._layout.path(below)

    def apart(self, name: str, uri: str) -> str:
        """The path of a file whose best one another has."""
        return apart(name, uri)

    def is_there(self, outcome: Outcome) -> bool:
        """Whether a file is as the ledger says that it was written. Blocks."""
        assert outcome.path is not None
        found = self.directory.look(outcome.path)
        if found is None or found.size != outcome.size or outcome.digest is None:
            return False
        return found.stamp == outcome.stamp or self.directory.digest(outcome.path, outcome.digest) == outcome.digest

    async def put(self, wish: Wish, body: bytes, etag: str | None) -> Written:
        """Writes a file, beside what is not ours, and its line in the ledger. Raises `OSError`."""
        async with self._one:
            return Written(await asyncio.to_thread(self._place, wish, body, etag), made=True)

    def _place(self, wish: Wish, body: bytes, etag: str | None) -> str:
        with TemporaryFile(dir=self.directory.root / STATE) as file:
            file.write(body)
            file.flush()
            digest = digest_of(memoryview(body), "blake3")
            source = Source("", file.fileno(), digest, shared=False)
            placed = self.directory.place(source, wish.target, wish.uri, own=wish.there)
        self.record.add([Outcome(redacted(wish.uri), placed.path, placed.size, digest, etag, placed.stamp)])
        return placed.path


def _renamed(key: str, suffix: str) -> str:
    folder, slash, name = key.rpartition("/")
    stem, _, _ = name.rpartition(".")
    return folder + slash + (stem or name) + suffix
