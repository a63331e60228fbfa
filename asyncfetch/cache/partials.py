"""What came of large bodies that are not whole: `partial/<name>/`, a file `body` with holes in it and its `map`.

While a body is being brought its directory is its owner's, `tmp/<owner>/<number>-<name>`, and nobody else touches it:
a rename takes it from `partial/`, and another leaves it there for the next attempt. Where a process was killed
meanwhile it is still among its files, and whoever finds that the owner is dead leaves it there in its stead. So no lock
is needed to have one all to oneself, and there is at most one for each object.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.partmap import Begun, PartMap, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncfetch.cache.owner import Owner

BODY, MAP = "body", "map"
_LEFT = re.compile(r"\d+-([0-9a-f]{32})\Z")  # in an owner's directory
_NAME = re.compile(r"[0-9a-f]{32}\Z")
_MOST_MAP = 1 << 29  # bytes; of an object of 5 TiB in pieces of 512 KiB it has 360 MB
_MOST_HEAD = 1 << 16  # a key has 1,024 bytes at most
_SETTLING_NS = 100 * 10**6  # two changes of a directory can have the same time; file times are exact to 10 ms or better

_log = logging.getLogger(__name__)


class Unfinished(NamedTuple):
    """What came of an object that nobody is bringing now."""

    name: str  # of its directory
    begun: Begun | None  # None where its map says nothing, or cannot be read
    boot: str | None  # None where its map cannot be read now
    size: int  # bytes on the disk
    modified: float  # seconds since 1970, when the last of them came


class Partials:
    """What lies in `partial/`, and what of it this process is going on with. Any thread may call any method.

    `take`, `keep` and `remove` raise `OSError`.
    """

    def __init__(self, root: str, owner: Owner, boot: str) -> None:
        self.boot = boot
        self._root, self._owner = root, owner
        self._lock = threading.Lock()
        self._mine: dict[str, list[Callable[[], None]] | None] = {}  # a list of who waits, once it is being left
        self._seen: files.Stamp | None = None
        self._held = 0
        self._stuck: set[str] = set()  # of those that could not be evicted who was told of

    def new_path(self, begun: Begun) -> str:
        """Where the body of an object may be brought to; its owner's, and recognized by `rescue`."""
        return f"{self._owner.new_path()}-{begun.name}"

    def path(self, name: str) -> str:
        """Where one lies while nobody is bringing it."""
        return f"{self._root}/{name}"

    def claim(self, name: str, again: Callable[[], None]) -> bool | None:
        """Makes one this caller's among those of this process. False while another is bringing it.

        None where another has given it up and is about to leave it here: `again` is called when that is done.
        """
        with self._lock:
            if name not in self._mine:
                self._mine[name] = None
                return True
            waiting = self._mine[name]
            if waiting is None:
                return False
            waiting.append(again)
            return None

    def give_up(self, name: str) -> None:
        """Says that one that was claimed will be left here soon."""
        with self._lock:
            if name in self._mine and self._mine[name] is None:
                self._mine[name] = []

    def settle(self, name: str) -> None:
        """Ends a claim: it was left, or removed, or is whole."""
        with self._lock:
            waiting = self._mine.pop(name, None)
        for again in waiting or ():
            again()

    def take(self, begun: Begun) -> tuple[str, PartMap] | None:
        """Takes what came of an object, to go on with it. None where there is nothing that would be of use.

        What came of another object of that name, or under another boot, is removed.
        """
        path = self.new_path(begun)
        try:
            files.rename(self.path(begun.name), path)
        except FileNotFoundError:
            if not self._owner.visit_dead(self.rescue):
                return None
            try:
                files.rename(self.path(begun.name), path)
            except FileNotFoundError:
                return None
        found = None
        try:
            found = self._read_useful(path, _MOST_MAP)
            if found is not None and found.begun != begun:
                found = None
        finally:  # also where it cannot be read: nobody else would
            if found is None:
                files.remove_tree(path)
        return (path, found) if found is not None else None

    def keep(self, path: str, name: str) -> None:
        """Leaves what came of an object for whoever goes on with it.

        Where there is something already, as two processes were at it, the one of which less came is removed; of two
        objects that of the last to leave stays.
        """
        target = self.path(name)
        files.make_directory(self._root)
        try:
            files.rename(path, target)
            return
        except FileNotFoundError:
            raise
        except OSError:  # there is something, else it fails again
            if _same_object(path, target) and _size(path) <= _size(target):
                files.remove_tree(path)
                return
        self._remove(target)
        files.rename(path, target)

    def rescue(self, directory: str) -> bool:
        """Leaves here what a dead owner was bringing, as far as it is of use. True when there was any."""
        rescued = False
        for name in files.names(directory):
            if (left := _LEFT.match(name)) is None:
                continue
            path = f"{directory}/{name}"
            with contextlib.suppress(OSError):  # of others more may be of use
                if self._read_useful(path, _MOST_HEAD) is not None:
                    self.keep(path, left[1])
                    rescued = True
        return rescued

    def sweep(self) -> None:
        """Removes what came under another boot, and may not have reached the disk, and what is nothing of this kind."""
        with contextlib.suppress(OSError):
            for one in self.unfinished():
                if one.boot not in (self.boot, None):
                    with contextlib.suppress(OSError):
                        self.remove(one)

    def held(self) -> int:
        """How many bytes lie here. One look at the directory as long as none comes or goes."""
        with contextlib.suppress(OSError):
            seen = files.stamp_of(self._root)
            if seen is None or seen != self._seen:
                settled = seen is not None and time.time_ns() - seen.modified_ns > _SETTLING_NS
                self._held = sum(one.size for one in self.unfinished())
                self._seen = seen if settled else None
        return self._held

    def unfinished(self) -> Iterator[Unfinished]:
        """All that lie here, in no order, but for those that cannot be looked at."""
        for name in files.names(self._root):
            if _NAME.match(name):  # else a stranger's
                with contextlib.suppress(OSError):
                    if (one := self._look_at(name)) is not None:
                        yield one

    def totals(self) -> tuple[int, int]:
        """How many lie here, and how many bytes they have."""
        sizes = [one.size for one in self.unfinished()]
        return len(sizes), sum(sizes)

    def evict(self, need: float, before: float) -> list[int]:
        """Removes those whose last byte came before a time, the oldest first, until `need` bytes are free.

        Returns how many bytes each had. One that cannot be removed is told of once, and does not hold up the others.
        """
        freed: list[int] = []
        for one in sorted(self.unfinished(), key=lambda one: one.modified):
            if sum(freed) >= need or one.modified >= before:
                break
            try:
                if self.remove(one):
                    freed.append(one.size)
            except OSError as error:
                if one.name not in self._stuck:
                    self._stuck.add(one.name)
                    _log.warning("what came of an object could not be evicted: %s: %s", self.path(one.name), error)
        return freed

    def clear(self) -> list[int]:
        """Removes all. Returns how many bytes each had.

        Raises `OSError` for one that does not go, when the others are gone.
        """
        gone: list[int] = []
        stuck: OSError | None = None
        for one in list(self.unfinished()):
            try:
                if self.remove(one):
                    gone.append(one.size)
            except OSError as error:
                stuck = error
        if stuck is not None:
            raise stuck
        return gone

    def remove(self, one: Unfinished) -> bool:
        """Removes one. False where somebody has taken it meanwhile, to go on with it."""
        return self._remove(self.path(one.name))

    def _look_at(self, name: str) -> Unfinished | None:
        path = self.path(name)
        stamp = files.stamp_of(f"{path}/{MAP}") or files.stamp_of(path)
        if stamp is None:
            return None  # taken meanwhile
        begun: Begun | None = None
        boot: str | None = None
        with contextlib.suppress(OSError):
            found = _read(path, _MOST_HEAD)
            begun, boot = (found.begun, found.boot) if found else (None, "")
        return Unfinished(name, begun, boot, _size(path), stamp.modified_ns / 1e9)

    def _read_useful(self, path: str, limit: int) -> PartMap | None:
        """The map of a directory, or of so many bytes of it, if some attempt can go on with what it says."""
        found = _read(path, limit)
        if found is None or found.boot != self.boot or not found.stretches:
            return None
        # Of a body that somebody cut short, what is missing would read as zeros once more is written behind it. There
        # is none at all where a process was killed that had just made it whole.
        return found if (files.size_of(f"{path}/{BODY}") or 0) >= found.stretches[-1][1] else None

    def _remove(self, path: str) -> bool:
        aside = self._owner.new_path()
        try:
            files.rename(path, aside)  # so that nobody takes half of it
        except FileNotFoundError:
            return False
        files.remove_tree(aside)
        return True


def _read(path: str, limit: int) -> PartMap | None:
    """The map of a directory, or of so many bytes of it."""
    return parse(files.read(f"{path}/{MAP}", limit) or b"")


def _same_object(one: str, other: str) -> bool:
    first, second = _read(one, _MOST_HEAD), _read(other, _MOST_HEAD)
    return first is not None and second is not None and (first.begun, first.boot) == (second.begun, second.boot)


def _size(path: str) -> int:
    return files.allocated(f"{path}/{BODY}") or 0
