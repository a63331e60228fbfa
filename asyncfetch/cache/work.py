"""What a batch of commands does, on whichever thread has its turn: finds, publishes, and tells the index.

It finds what is looked up, then writes bodies and renames them into place, then changes the index in one transaction,
then looks once more at files that another process might have removed until then. A transaction costs 30 us, which
cannot be paid for each object.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.cache.batch import Batch
from asyncfetch.cache.changes import blob_of, placed, stored_bytes
from asyncfetch.cache.claims import Claims
from asyncfetch.cache.commands import Ask, Discard, LookUp, Note, Read, Release, Write
from asyncfetch.cache.damage import Damage
from asyncfetch.cache.database import BUSY_SECONDS
from asyncfetch.cache.eviction import Room
from asyncfetch.cache.failures import WouldWait, explain
from asyncfetch.cache.finding import Finding
from asyncfetch.cache.headers import Headers
from asyncfetch.cache.line import BATCH_LOOK_UPS, Line, sort_out
from asyncfetch.cache.placing import Placing
from asyncfetch.cache.recovery import drop_lost
from asyncfetch.cache.tally import Tally

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.admission import Limits
    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.commands import Command, Later
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.line import Looking, Writing
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.partials import Partials
    from asyncfetch.cache.proofs import Proofs
    from asyncfetch.cache.records import Elsewhere, Found, Published, RefKey
    from asyncfetch.cache.recovery import Intents
    from asyncfetch.cache.sinks import Body

_log = logging.getLogger(__name__)

SEEN_SECONDS = 0.001  # what was seen so long ago still holds for a read; three `stat` calls, a third of what it takes
HERE_SECONDS = 0.05  # after something that the loop did itself it is taken to be about to do more
HINDERED_SECONDS = 0.05  # after another process held the loop up, the thread does what could be held up again
# Changes kept for an index that takes none. The blobs of others are met again when they are wanted, and until the cache
# is closed they count towards its limit.
MOST_OWED = 10_000


class Work:
    """The commands in line, and what does them. For one thread at a time, but for counters, which anybody may read."""

    def __init__(
        self,
        *,
        blobs: Blobs,
        index: Index,
        partials: Partials,
        owner: Owner,
        proofs: Proofs,
        limits: Limits,
        intents: Intents,
    ) -> None:
        self._blobs, self._index, self._owner, self._proofs, self._intents = blobs, index, owner, proofs, intents
        self.damage = Damage(blobs, index, proofs)
        self.room = Room(limits, index, blobs, partials, owner, intents)
        self.placing = Placing(blobs, self.room)
        self.headers = Headers()
        self.finding = Finding(index, blobs, owner, proofs, self.damage, self.room, self.headers)
        self.claims = Claims(index, owner, index.algorithm, self.finding.look)
        self._line = Line()
        self._handed_on: deque[Batch] = deque()  # that the loop has not finished
        self._owed: list[Change] = []  # of blobs that are in their places, and that the index could not take
        self._given_up = 0  # bytes of blobs in their places that are not even owed any more
        self.tally = Tally()  # the index is told when it is written to anyway
        self._warned = False  # of what `attempt` met
        self._followed = -1.0  # when `read_here` last looked which index is in force, and whether others live
        self._here_at = -math.inf  # when the loop last did something itself
        self._hindered_at = -math.inf  # when it would have had to wait
        self._blocked_since = math.inf  # when what is awaited could not be looked at for the first time
        self.busy_seconds = 0.0
        self.batches = self.awaited = self.failed = self.unremembered = 0

    @property
    def waits(self) -> bool:
        """Whether commands are in line."""
        return bool(self._line or self._handed_on)

    def take(self, commands: Sequence[Command]) -> None:
        """Puts commands in line."""
        self._line.take(commands)

    def take_on(self, batch: Batch) -> None:
        """Puts a batch in line that the loop has not finished."""
        self._handed_on.append(batch)

    def do_batch(self) -> Batch:
        """Does as much of the line as the limits allow."""
        if self._handed_on:
            batch = self._handed_on.popleft()
            self._finish(batch)
            return batch
        return self._do(Batch(), self._line.next_look_ups(), self._line.next_writes())

    def do_here(self, commands: Sequence[Command]) -> Batch | None:
        """On the loop: does commands that are quick, and no more of them than a batch has. None where it would wait.

        Some may be put off. A batch that is not finished is for the thread to take on. None comes in line: whoever
        handed in what is interrupted, also by a KeyboardInterrupt, has it still, and would have it done twice.
        """
        batch = Batch(here=True)
        self._here_at = time.perf_counter()
        self._index.patient = False
        try:
            return self._do(batch, *sort_out(commands))
        except WouldWait:
            self._leave_to_thread()
            return None
        finally:
            self._index.patient = True  # without a call: as one ends, a signal may come

    def read_here(self, command: Read) -> Batch | None:
        """On the loop: does one read, before all that is in line, and no more. None where it would wait."""
        began = self._here_at = time.perf_counter()
        batch = Batch(here=True, handled=1)
        self._index.patient = False
        try:
            if began - self._followed > SEEN_SECONDS:
                if not self.is_quick(()):
                    return None
                self._follow()
                self._followed = began
            self._find(command, batch)
            if batch.blobs or batch.lost:
                self._finish(batch)
            else:
                self._end(batch)
        except WouldWait:
            self._leave_to_thread()
            return None
        finally:
            self._index.patient = True  # as in `do_here`
        self.batches += 1
        self.busy_seconds += time.perf_counter() - began
        return batch

    def _do(self, batch: Batch, look_ups: Sequence[Looking], writes: Sequence[Writing]) -> Batch:
        began = time.perf_counter()
        self._follow()
        self._make_room(writes, evict=not batch.here)
        for command in look_ups:
            self._find(command, batch)
        batch.handled = len(look_ups) + len(writes)
        batch.beside = bool(look_ups)
        self._do_writes(writes, batch)
        self._finish(batch)
        if not batch.here:  # of what is awaited the thread sees when it is time to look
            self.attempt(partial(self._poll, batch))
        self.batches += 1
        # Counted before it is told, so that whoever was answered sees it in the statistics.
        self.busy_seconds += time.perf_counter() - began
        return batch

    def shrink(self, *, beside: bool) -> None:
        """Removes what is too much, if it is time to, `beside` look-ups with a pause behind it.

        While the loop does something itself that is left to it: two threads that remove and look up hand the
        interpreter to and fro at each of a victim's system calls.
        """
        if not self._owed and not self._loop_is_at_it():
            self.attempt(partial(self.room.shrink, beside=beside))

    def shrink_here(self) -> None:
        """On the loop: as `shrink`, beside what it does itself."""
        if self._owed:
            return
        self._index.patient = False
        try:
            self.attempt(partial(self.room.shrink, beside=True))
        except WouldWait:
            self._leave_to_thread()
        finally:
            self._index.patient = True  # as in `do_here`

    def is_quick(self, commands: Sequence[Command]) -> bool:
        """Whether commands take the loop no time but their own, and not much: no question, nor what others hold up.

        Whether they do is seen when it is tried; where they just have, it is left to the thread for a while.
        """
        keys = 0
        for command in commands:
            if isinstance(command, Ask):
                return False
            if isinstance(command, LookUp):
                keys += len(command.keys)
        try:
            hindered = time.perf_counter() - self._hindered_at < HINDERED_SECONDS
            return keys <= BATCH_LOOK_UPS and not (hindered and self._owner.in_company())
        except OSError:  # doing them will say why
            return False

    def pause(self) -> float | None:
        """Seconds until something is due for the thread though no command comes; None where nothing is."""
        pause, awaited = None if self._owed else self.room.pause(), self.claims.pause()
        if pause is not None:
            pause = max(pause, self._here_at + HERE_SECONDS - time.perf_counter())
        return min((one for one in (pause, awaited) if one is not None), default=None)

    def end(self) -> None:
        """Gives back what is claimed, and tells the index what it has not heard."""
        self.attempt(self.claims.leave)
        owed = bool(self._owed)
        counts = self.tally.untold(self.placing.stored, last=True)
        if self._change_index([*self._owed, *self.headers.untold(), *counts]) and owed:
            self._intents.fulfil()

    def attempt(self, chore: Callable[[], object]) -> None:
        """Does what nobody waits for, and nothing rests on. That the disk misbehaves is told once: it comes back."""
        try:
            chore()
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warning("%s: the cache could not be looked after (%s)", self._blobs.root, error)
        except Exception:  # a fault of ours must not end the thread: everybody would wait for ever
            _log.exception("the cache could not be looked after")

    def _loop_is_at_it(self) -> bool:
        return time.perf_counter() - self._here_at < HERE_SECONDS

    def _leave_to_thread(self) -> None:
        self._here_at, self._hindered_at = -math.inf, time.perf_counter()

    def _follow(self) -> None:
        try:
            self._index.follow()
        except OSError:  # the directory cannot even be looked at: reads and writes will say why
            _log.debug("the index could not be looked at", exc_info=True)
        except Exception:  # as above
            _log.exception("the index could not be followed")

    def _change_index(
        self, changes: Sequence[Change], also: Sequence[Callable[[sqlite3.Connection], object]] = ()
    ) -> bool:
        try:
            return self._index.apply(changes, also)
        except Exception:  # as above; and the blobs of these changes are in their places
            _log.exception("the index could not be changed")
            return False

    def _make_room(self, writes: Sequence[Writing], *, evict: bool) -> None:
        bodies = [command.body for command in writes if isinstance(command, Write) and not command.private]
        if bodies:
            self.attempt(partial(self.room.make, [body.size for body in bodies], evict=evict))
            self._intents.declare(dict.fromkeys([*map(blob_of, self._owed), *[body.digest for body in bodies]]))

    def _find(self, command: Looking, batch: Batch) -> None:
        find = self.finding
        result: list[Found | Elsewhere | None] | bytes | Exception | None
        try:
            if isinstance(command, LookUp):
                result = answers = find.find(command, batch)
                batch.looked_up.append((command.keys, answers))
            else:
                result = data = find.read(command, batch)
                batch.read.append((command.key, data))
        except OSError as error:
            result = explain(error, self._blobs.root)
        except Exception as error:  # whoever asked gets it; the thread serves others too
            result = error
        batch.answers.append((command.done, result, None))

    def _poll(self, batch: Batch) -> None:
        told: dict[Later, dict[RefKey, Found | None]] = {}
        # The loop may come for its turn just now. A lock that goes from hand to hand is free in one of the next looks.
        # One that is held for longer is waited for: whoever holds it may be stuck.
        now = time.perf_counter()
        self._index.patient = now - self._blocked_since > BUSY_SECONDS
        try:
            settled = self.claims.poll()
        except WouldWait:
            self._blocked_since = min(self._blocked_since, now)
            return
        finally:
            self._index.patient = True
        self._blocked_since = math.inf
        for key, found, laters in settled:
            self.awaited += found is not None
            for later in laters:
                told.setdefault(later, {})[key] = found
        batch.answers.extend((later, some, None) for later, some in told.items())

    def _do_writes(self, writes: Sequence[Writing], batch: Batch) -> None:
        for command in writes:
            if isinstance(command, Write):
                self._write(command, batch)
            elif isinstance(command, Note):
                batch.changes.append(command.change)
                batch.noted.append(command)
            elif isinstance(command, Release):
                batch.released += self.claims.release(command.key)
            elif isinstance(command, Discard):
                _discard(command.path)
            elif isinstance(command, Ask):
                batch.answers.append((command.done, self._ask(command.function), None))

    def _write(self, command: Write, batch: Batch) -> None:
        body = command.body
        result: Published | Exception
        try:
            result = self.placing.place(body, private=command.private, evict=not batch.here)
        except Exception as error:  # whoever handed this body in gets it; the thread serves others too
            if batch.here and body.view is not None:
                batch.put_off.append(command)  # the thread may make room for it, or else says what is wrong
                batch.handled -= 1
                return
            result = self._not_placed(body, error)
        else:
            if not result.private:
                batch.blobs.append(placed(body.name, result, self._owner.now()))
                if command.change is not None:
                    batch.changes.append(command.change)
                if not result.stored:
                    batch.checks.append(partial(self._confirm, batch, len(batch.answers), body, result))
        if command.key is not None:
            batch.released += self.claims.release(command.key)
        batch.answers.append((command.done, result, command.release))

    def _confirm(self, batch: Batch, place: int, body: Body, published: Published) -> None:
        result: Published | Exception
        try:
            result = self.placing.confirm(body, published)
        except Exception as error:
            result = self._not_placed(body, error)
        done, _, release = batch.answers[place]
        batch.answers[place] = done, result, release

    def _not_placed(self, body: Body, error: Exception) -> Exception:
        self.failed += 1
        if body.path:
            _discard(body.path)
        return explain(error, self._blobs.path(body.digest)) if isinstance(error, OSError) else error

    def _finish(self, batch: Batch) -> None:
        """Tells the index, and then looks again at what others might have removed before they could know.

        What the loop would have to wait for it leaves as it is, to be done once more from its beginning.
        """
        try:
            self._commit(batch)
            if batch.missed:
                self.attempt(partial(self.claims.claim, batch.missed))
        except WouldWait:
            self._leave_to_thread()
            return
        self._end(batch)

    def _end(self, batch: Batch) -> None:
        for keys, answers in batch.looked_up:  # by now they say what is told
            self.tally.looked_up(keys, answers)
        for key, data in batch.read:
            self.tally.read(key, data)
        batch.finished = True

    def _commit(self, batch: Batch) -> None:
        batch.blobs.extend(self._proofs.take())
        if batch.changes or batch.blobs or batch.lost or batch.released or self.headers.due:
            also = [drop_lost(self._blobs, batch.lost)] if batch.lost else []
            known = [*self.headers.untold(), *self.tally.untold(self.placing.stored)]
            if self._change_index([*self._owed, *batch.blobs, *batch.changes, *batch.released, *known], also):
                self.tally.told()
                self._owed.clear()
                self.room.spared.clear()
                self.room.untold = self._given_up
            else:
                self.unremembered += len(batch.changes)
                self._owed += batch.blobs
                self.room.untold += stored_bytes(batch.blobs)
                self._given_up += stored_bytes(self._owed[:-MOST_OWED])
                del self._owed[:-MOST_OWED]
                self.room.spared = set(map(blob_of, self._owed))
            self.headers.told()
            batch.changes, batch.blobs, batch.lost, batch.released = [], [], [], []
        if not self._owed:
            self._intents.fulfil()
        for note in batch.noted:
            self.finding.noted(note)
        checks, batch.checks = batch.checks, []
        for check in checks:
            check()

    def _ask(self, function: Callable[[], object]) -> object:
        try:
            return function()
        except OSError as error:
            return explain(error, self._blobs.root)
        except Exception as error:  # whoever asked gets it
            return error


def _discard(path: str) -> None:
    try:
        files.remove(path)
    except OSError as error:
        _log.warning("%s could not be removed now (%s); it goes with its directory", path, error)
