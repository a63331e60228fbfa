"""The file of a body in parts: written anywhere and at the same time, and, where that is of use, left for later."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.partials import BODY, MAP
from asyncfetch.cache.partmap import head, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.partmap import Begun, Stretch


_log = logging.getLogger(__name__)


class PartFile:
    """A file of the owner's; with `begun` it has a directory and a map to itself, so that another attempt can go on.

    For the cache's threads: several may `write` and `read` at once, all else is for one. These and `finish` raise
    `OSError`.
    """

    def __init__(self, owner: Owner, partials: Partials, begun: Begun | None) -> None:
        self._owner, self._partials, self._begun = owner, partials, begun
        self._claimed = False
        self._opening = threading.Lock()
        self._mapping = threading.Lock()
        self._directory = ""
        self._descriptor = self._map = -1  # of the map negative also when it cannot be written to any more
        self._map_end = 0
        self._worth = False  # the map says of any bytes that they are here
        self.path = ""

    @property
    def lasting(self) -> bool:
        """Whether another attempt may go on with it."""
        return self._begun is not None

    def claim(self, again: Callable[[], None]) -> bool:
        """Whether it is known what it may begin with; else `again` is called when it is.

        Where another body of this process is of the same object, this one is brought for itself and not left.
        """
        if self._begun is not None:
            claimed = self._partials.claim(self._begun.name, again)
            if claimed is None:
                return False
            self._claimed = claimed
            if not claimed:
                self._begun = None
        return True

    def give_up(self) -> None:
        """Says that it will be left, or dropped, soon."""
        if self._claimed and self._begun is not None:
            self._partials.give_up(self._begun.name)

    def take_up(self) -> Sequence[Stretch]:
        """Goes on with what came of the object, if anything has; says which bytes these are."""
        if self._begun is None:
            return []
        try:
            found = self._partials.take(self._begun)
            if found is None:
                return []
            self._directory, said = found
            self.path = f"{self._directory}/{BODY}"
            self._descriptor = files.open_to_update(self.path)
            self._map = files.open_to_update(f"{self._directory}/{MAP}")
        except OSError as error:
            _log.warning("what came of %s cannot be used (%s); it is fetched anew", self._begun.key.key, error)
            with contextlib.suppress(OSError):
                self._close()
            self._remove_directory()
            return []
        self._map_end, self._worth = said.end, True
        return said.stretches

    def write(self, data: memoryview, offset: int) -> None:
        """Writes bytes, and then says in the map that they are there."""
        files.write_at(self._open(), data, offset)
        if self._begun is not None:
            self._note(offset, offset + len(data))

    def read(self, room: memoryview, offset: int) -> None:
        """Fills all of `room`."""
        files.read_at(self._descriptor, room, offset)

    def finish(self) -> str:
        """Closes the file, all of which was written, and gives its path; it is its owner's like any other."""
        self._close()
        if self._directory:
            whole = self._owner.new_path()
            files.rename(self.path, whole)
            self.path = whole
            self._remove_directory()
        self._settle()
        path, self.path = self.path, ""
        return path

    def leave(self) -> bool:
        """Closes it, and leaves what is there for another attempt, if it would be of use. False where it is not."""
        left = False
        with contextlib.suppress(OSError):
            self._close()
            if self._directory and self._worth and self._begun is not None:
                self._partials.keep(self._directory, self._begun.name)
                left = True
        self.drop()
        return left

    def drop(self) -> None:
        """Closes it and removes what there is, without hiding why behind a second failure. May be called twice."""
        with self._opening, contextlib.suppress(OSError):
            self._close()
        path, self.path = self.path, ""
        self._remove_directory()
        with contextlib.suppress(OSError):
            if path:
                files.remove(path)
        self._settle()

    def _open(self) -> int:
        with self._opening:
            if self._descriptor < 0:
                try:
                    self._create()
                except FileNotFoundError:  # the owner's directory is gone, swept by mistake or as old
                    self._owner.renew(self.path)
                    self._create()
            return self._descriptor

    def _create(self) -> None:
        if self._begun is None:
            self.path = self._owner.new_path()
            self._descriptor = files.create(self.path, readable=True)
            return
        self._remove_directory()  # of a try that found the disk full
        directory = self._partials.new_path(self._begun)
        self.path = f"{directory}/{BODY}"
        files.make_directory(directory)
        self._directory = directory
        self._descriptor = files.create(self.path, readable=True)
        with contextlib.suppress(
            OSError
        ):  # a full disk tells the body as well; without a map nothing is left for later
            self._map = files.create(f"{directory}/{MAP}")
            first = head(self._begun, self._partials.boot)
            files.write_at(self._map, memoryview(first), 0)
            self._map_end = len(first)

    def _note(self, start: int, stop: int) -> None:
        with self._mapping:
            if self._map_end:
                line = record(start, stop)
                try:
                    files.write_at(self._map, memoryview(line), self._map_end)
                except OSError:
                    self._map_end = 0  # a part of the line may be there: what came behind it would not be believed
                else:
                    self._map_end += len(line)
                    self._worth = True

    def _close(self) -> None:
        descriptors = self._map, self._descriptor
        self._map = self._descriptor = -1
        with contextlib.ExitStack() as closing:  # one that fails does not leave the other open
            for descriptor in descriptors:
                if descriptor >= 0:
                    closing.callback(files.close, descriptor)

    def _remove_directory(self) -> None:
        directory, self._directory = self._directory, ""
        if directory:
            files.remove_tree(directory)

    def _settle(self) -> None:
        claimed, self._claimed = self._claimed, False
        if claimed and self._begun is not None:
            self._partials.settle(self._begun.name)
