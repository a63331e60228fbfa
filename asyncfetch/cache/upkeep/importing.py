"""Imports: the archives of `exporting`, of which nothing is believed that cannot be checked."""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, cast

from asyncfetch.cache import digests, files
from asyncfetch.cache.changes import REMEMBER, met, remember, split, stored
from asyncfetch.cache.failures import explain
from asyncfetch.cache.upkeep.exporting import END_NAME, FORMAT, HEAD_NAME, Carried, Objects, Refused
from asyncfetch.cache.upkeep.lines import read_line
from asyncfetch.cache.upkeep.tar import BrokenTar, Reader
from asyncfetch.errors import UsageError
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import Ref, RefKey
    from asyncfetch.cache.upkeep.session import Select, Upkeep
    from asyncfetch.cache.upkeep.tar import Member, Source
    from asyncfetch.settings import Digest

_BLOB = re.compile(r"blobs/(blake3|sha256)/([0-9a-f]{64})\Z")
_REFS = re.compile(r"refs/[0-9]{1,12}\.jsonl\Z")
_TOGETHER = 64  # blobs told to the index in one transaction, as in a job's batches
_MOST_TEXT = 64 * MIB  # bytes of a member that is read whole: 1,000 objects, of 16 KB at most each in what is not ours
_ARCHIVE = "the archive"  # the name of what is no member's fault

# What a job has checked later is not replaced.
_REMEMBER_NEWER = REMEMBER._replace(known=f"{REMEMBER.known} WHERE excluded.validated > validated")
_KNOWN = "SELECT 1 FROM blobs WHERE algorithm = ? AND digest = ? AND size = ?"


def import_(keeping: Upkeep, source: Source) -> Iterator[Carried | Objects | Refused]:
    """Takes the blobs and objects of an archive into the cache, and tells each blob as it comes.

    A blob is published whole, under the digest of the bytes that came, or not at all; an object is believed only when
    its blob is there. All else is refused by its name, and the rest goes on. What came stays when the import is left
    early; another one passes over it. Which bytes an object has is the archive's word, until the object is checked
    against its origin.

    Raises `UsageError` for what is no such archive, `CacheUnusable` and `StorageFull`, and what the source raises.
    """
    reader = Reader(source)
    members = iter(reader)
    try:
        _check_head(reader, next(members, None))
    except BrokenTar as error:
        raise UsageError(f"{_ARCHIVE} is none that cache export made: {error}") from None
    taking = _Taking(keeping, reader)
    try:
        for member in members:
            yield from taking.take(member)
    except BrokenTar as error:
        yield Refused(_ARCHIVE, str(error))
    else:
        if not taking.ended:
            yield Refused(_ARCHIVE, f"has no {END_NAME}: a part of it is missing")
    finally:
        taking.tell_index()


def _check_head(reader: Reader, member: Member | None) -> None:
    if member is None or member.name != HEAD_NAME or not member.plain:
        raise BrokenTar(f"it does not begin with {HEAD_NAME}")
    found = _json(reader, member).get("format")
    if found != FORMAT:
        raise BrokenTar(f"its format is {found!r}, this version of asyncfetch reads {FORMAT}")


class _Taking:
    """One import under way."""

    def __init__(self, keeping: Upkeep, reader: Reader) -> None:
        self._keeping, self._reader = keeping, reader
        self._untold: list[Change] = []  # of blobs in their places that the index does not know
        self._room = memoryview(bytearray(MIB))
        self._blobs = self._objects = 0
        self.ended = False

    def take(self, member: Member) -> Iterator[Carried | Objects | Refused]:
        blob, name = _BLOB.match(member.name), ascii(member.name)[1:-1]
        if not member.plain:
            yield Refused(name, "is no plain file")
        elif blob:
            self._blobs += 1
            yield self._take_blob(member, cast("Digest", blob[1]), blob[2])
        elif _REFS.match(member.name):
            yield from self._take_objects(member)
        elif member.name == END_NAME:
            self.ended = True
            said = _json(self._reader, member)
            if said != {"blobs": self._blobs, "objects": self._objects}:
                yield Refused(name, f"counts {said}, but {self._blobs} blobs and {self._objects} objects came")
        else:
            yield Refused(name, "is no part of an export")

    def tell_index(self) -> None:
        untold, self._untold = self._untold, []
        if untold:
            self._keeping.make(untold)

    def _take_blob(self, member: Member, algorithm: Digest, name: str) -> Carried | Refused:
        digest = f"{algorithm}:{name}"
        path = self._keeping.blobs.path(digest)
        row = self._keeping.catalog.blob(digest)
        if row is not None and row.size == member.size == files.plain_size_of(path):
            return Carried(member.size, new=False)
        try:
            temp = self._write(algorithm, name)
            if temp is None:
                return Refused(member.name, f"holds other bytes than those of {digest}")
            _, new = self._keeping.blobs.adopt(digest, member.size, temp)
            if not new:
                files.remove(temp)
        except OSError as error:
            raise explain(error, path) from error
        self._untold.append((stored if new else met)(digest, member.size, time.time()))
        if len(self._untold) >= _TOGETHER:
            self.tell_index()
        return Carried(member.size, new)

    def _write(self, algorithm: Digest, name: str) -> str | None:
        """Writes the present member into a file of the owner's. None, and no file, where it has another digest."""
        temp, descriptor = self._create()
        hasher = digests.new(algorithm)
        whole = False
        try:
            try:
                while count := self._reader.read_into(self._room):
                    hasher.update(self._room[:count])
                    files.write(descriptor, self._room[:count])
            finally:
                files.close(descriptor)
            whole = hasher.hexdigest() == name
        finally:
            if not whole:
                with contextlib.suppress(OSError):
                    files.remove(temp)
        return temp if whole else None

    def _create(self) -> tuple[str, int]:
        owner = self._keeping.owner
        temp = owner.new_path()
        try:
            return temp, files.create(temp)
        except FileNotFoundError:  # a stranger removed the owner's directory
            owner.renew(temp)
            temp = owner.new_path()
            return temp, files.create(temp)

    def _take_objects(self, member: Member) -> Iterator[Objects | Refused]:
        self.tell_index()
        if member.size > _MOST_TEXT:
            yield Refused(member.name, "is too large")
            return
        lines = _text(self._reader, member).splitlines()
        self._objects += len(lines)
        named: list[tuple[str, RefKey, Ref]] = []
        for number, line in enumerate(lines, 1):
            try:
                named.append((f"{member.name}:{number}", *read_line(line)))
            except ValueError as error:
                yield Refused(f"{member.name}:{number}", str(error))
        refused: list[Refused] = []

        def look(select: Select) -> list[Change]:
            changes: list[Change] = []
            for where, key, ref in named:
                if select(_KNOWN, (*split(ref.digest), ref.size)):
                    _, row = remember(key, ref)
                    changes.append((_REMEMBER_NEWER, row))
                else:
                    refused.append(Refused(where, f"is {ref.digest} of {ref.size} bytes, which did not come"))
            return changes

        new = self._keeping.change(look)
        yield from refused
        yield Objects(len(named) - len(refused), new)


def _text(reader: Reader, member: Member) -> bytes:
    room = bytearray(member.size)
    reader.read_into(memoryview(room))
    return bytes(room)


def _json(reader: Reader, member: Member) -> dict[str, object]:
    if member.size > MIB:
        return {}
    try:
        value = json.loads(_text(reader, member))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
