"""Blobs hashed before they are served, on the threads that write: neither the loop nor the cache's thread waits."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.digests import digest_file
from asyncfetch.errors import FetcherClosed
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.damage import Damage
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.proofs import Proofs
    from asyncfetch.cache.records import Found, RefKey
    from asyncfetch.cache.writers import Writers

# What one hop to a thread is for: the hop costs 80 us, as much as to read and hash 100 KB.
_TOGETHER = 16
_BYTES_TOGETHER = 2 * MIB


class Check(NamedTuple):
    """A blob to be hashed, and who wants to know whether its bytes are its own."""

    key: RefKey
    found: Found
    done: Callable[[bool | Exception], None]


class Checked(NamedTuple):
    """What came of it. `fault` is "" for a good one; one that is `gone` is no fault. `stamp` says what was hashed."""

    check: Check
    fault: str
    gone: bool = False
    stamp: files.Stamp | None = None

    @property
    def good(self) -> bool:
        """Whether its bytes are there and are its own."""
        return not (self.fault or self.gone)


class Checks:
    """Belongs to the loop's thread. Whatever was put is answered in its time, `FetcherClosed` where it is too late."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        writers: Writers,
        blobs: Blobs,
        index: Index,
        proofs: Proofs,
        damage: Damage,
        request: Callable[[Callable[[], object], Callable[[object], None]], None],
    ) -> None:
        """`request` has a function called on the cache's thread, and then another on the loop."""
        self._loop, self._writers, self._blobs, self._index = loop, writers, blobs, index
        self._proofs, self._damage, self._request = proofs, damage, request
        self._waiting: list[Check] = []
        self._closed = False

    def put(self, check: Check) -> None:
        """Has a blob hashed soon, together with others of this turn of the loop."""
        if not self._waiting:
            self._loop.call_soon(self._hand_out)
        self._waiting.append(check)

    def close(self) -> None:
        """Before the threads are told to stop: later ones are not hashed."""
        self._hand_out()
        self._closed = True

    def _hand_out(self) -> None:
        waiting, self._waiting = self._waiting, []
        together: list[Check] = []
        size = 0
        for check in waiting:
            if self._closed:
                check.done(FetcherClosed("The cache was closed while a blob was checked"))
                continue
            together.append(check)
            size += check.found.ref.size
            if len(together) == _TOGETHER or size >= _BYTES_TOGETHER:
                self._writers.submit(partial(self._hash, together))
                together, size = [], 0
        if together:
            self._writers.submit(partial(self._hash, together))

    def _hash(self, checks: list[Check]) -> None:
        """On a thread."""
        checked = [_look(check) for check in checks]
        with contextlib.suppress(RuntimeError):  # the loop was closed over it: nobody is left to be told
            self._loop.call_soon_threadsafe(self._hashed, checked)

    def _hashed(self, checked: Sequence[Checked]) -> None:
        """Answers for good ones at once, for damaged ones when they are set aside."""
        damaged = [each for each in checked if each.fault]
        proven = [each for each in checked if each.good and each.check.found.doubt == "unproven"]
        if (damaged or proven) and not self._closed:
            self._request(partial(self._judge, damaged, proven), lambda _: _answer(damaged))
        else:
            _answer(damaged)
        for each in checked:
            if each.good:
                self._proofs.accept(each.check.found.ref.digest)
        _answer([each for each in checked if not each.fault])

    def _judge(self, damaged: Sequence[Checked], proven: Sequence[Checked]) -> None:
        """On the cache's thread."""
        for each in damaged:
            self._damage.set_aside(each.check.key, each.check.found.ref.digest, each.fault, each.stamp)
        for ref, path, *_ in (each.check.found for each in proven):
            if path == self._blobs.path(ref.digest):  # and not below
                self._proofs.accept_stored(ref.digest, ref.size)
        self._index.apply(self._proofs.take())


def _answer(checked: Sequence[Checked]) -> None:
    for each in checked:
        each.check.done(each.good)


def _look(check: Check) -> Checked:
    digest = check.found.ref.digest
    stamp = None
    try:
        stamp = files.stamp_of(check.found.path)
        real = digest_file(check.found.path, "blake3" if digest.startswith("blake3:") else "sha256")
    except (FileNotFoundError, PermissionError):
        return Checked(check, "", gone=True)
    except OSError as error:  # a disk that cannot read what it was given
        return Checked(check, str(error), stamp=stamp)
    return Checked(check, "" if real == digest else f"its digest is {real}", stamp=stamp)
