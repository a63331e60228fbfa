"""Which objects are here: what the index and the disk say, and what was noted on them since."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.cache.changes import met, touch
from asyncfetch.cache.claims import Missed
from asyncfetch.cache.records import Elsewhere, Found
from asyncfetch.cache.recovery import Lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.cache.batch import Batch
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.commands import LookUp, Note, Read
    from asyncfetch.cache.damage import Damage
    from asyncfetch.cache.eviction import Room
    from asyncfetch.cache.headers import Headers
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.proofs import Proofs
    from asyncfetch.cache.records import Known, Ref, RefKey

UNLIMITED_SECONDS = 86_400  # how exactly uses are kept while nobody evicts: to note one takes 6 to 14 us


class Finding:
    """Answers look-ups. For the cache's thread, but `note`, which is for the loop."""

    def __init__(
        self, index: Index, blobs: Blobs, owner: Owner, proofs: Proofs, damage: Damage, room: Room, headers: Headers
    ) -> None:
        self._index, self._blobs, self._owner, self._proofs = index, blobs, owner, proofs
        self._damage, self._room, self._headers = damage, room, headers
        self._noted: dict[RefKey, Note] = {}  # the last note on each object in line, which look-ups overtake
        self._noting = threading.Lock()

    def note(self, note: Note) -> None:
        """Takes down what look-ups are to find from now on, though the index is told later."""
        with self._noting:
            self._noted[note.key] = note

    def noted(self, note: Note) -> None:
        """Hears that the index knows."""
        with self._noting:  # a later note may come at any moment
            if self._noted.get(note.key) is note:
                del self._noted[note.key]

    def find(self, command: LookUp, batch: Batch) -> list[Found | Elsewhere | None]:
        """Where the objects are that are here. What the batch has to do besides is noted in it."""
        keys = command.keys
        found: list[Found | Elsewhere | None] = [None] * len(keys)
        for place, known in enumerate(self._index.find(keys)):
            if known is None:
                continue
            key, ref = keys[place], self._now(keys[place], known)
            if ref is None:
                continue
            found[place] = here = self._placed(ref, known)
            if here is None:
                self._lost(key, ref, batch)
                continue
            if self._touch(known, batch):
                batch.checks.append(partial(self._look_again, found, place))
        if (later := command.later) is not None and not self._room.refusing:
            stale = command.stale
            missed = [
                (place, here)
                for place, here in enumerate(found)
                if here is None
                or (stale is not None and isinstance(here, Found) and not here.doubt and stale(place, here.ref))
            ]
            if missed:
                places, seen = zip(*missed, strict=True)
                batch.missed.append(
                    Missed([keys[place] for place in places], seen, places, later, partial(self._missed, found))
                )
        return found

    def read(self, command: Read, batch: Batch) -> bytes | None:
        """The bytes of an object that is here and not doubted. Raises `OSError`."""
        (known,) = self._index.find([command.key])
        ref = known and self._now(command.key, known)
        if known is None or ref is None or not command.may(ref) or self._proofs.doubt(ref.digest, known.epoch):
            return None
        data = self._blobs.read(ref.digest, ref.size)
        if data is None:
            self._lost(command.key, ref, batch)
        else:
            self._touch(known, batch)
        return data

    def look(self, keys: Sequence[RefKey]) -> list[Found | None]:
        """Looks up without counting; what was noted on an object before it was missed holds no more."""
        return [known and self._placed(known.ref, known) for known in self._index.find(keys)]

    def _now(self, key: RefKey, known: Known) -> Ref | None:
        """What the index will say of an object once it has been told what was noted."""
        note = self._noted.get(key)
        return known.ref if note is None else note.seen(known.ref)

    def _placed(self, ref: Ref, known: Known) -> Found | None:
        """Where the blob of a ref lies, and whether that is to be doubted."""
        digest = ref.digest
        path = self._blobs.find(digest, ref.size)
        if path is None:
            return None
        header = self._headers.get(digest) if known.header is None else known.header
        return Found(ref, path, self._proofs.doubt(digest, known.epoch), header)

    def _missed(self, answer: list[Found | Elsewhere | None], place: int, found: Found | None, elsewhere: bool) -> None:
        """Hears that another brings one, or where one is after all; else it stays as it was seen."""
        if elsewhere or found is not None:
            answer[place] = Elsewhere.ELSEWHERE if elsewhere else found

    def _lost(self, key: RefKey, ref: Ref, batch: Batch) -> None:
        self._damage.look_at(key, ref)
        batch.lost.append(Lost(key, ref))

    def _look_again(self, found: list[Found | Elsewhere | None], place: int) -> None:
        one = found[place]
        if isinstance(one, Found) and self._blobs.find(one.ref.digest, one.ref.size) is None:
            found[place] = None

    def _matters(self) -> bool:
        """Whether it matters to the hour when a blob was used: somebody evicts, or will, told of it or not."""
        return self._room.limited or self._index.limited_since() < math.inf

    def _touch(self, known: Known, batch: Batch) -> bool:
        """Notes that this job uses a blob. False when the index knows that, or nobody evicts and it nearly does."""
        ref, used, started = known.ref, known.used, self._owner.job_started
        if used is not None and (used >= started or (used >= started - UNLIMITED_SECONDS and not self._matters())):
            return False
        now = self._owner.now()
        batch.blobs.append(met(ref.digest, ref.size, now) if used is None else touch(ref.digest, now))
        return True
