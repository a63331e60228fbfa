"""The cache as its users see it: asked and answered on the loop, while the disk is touched on threads alone."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from asyncfetch.cache.admission import Limits
from asyncfetch.cache.answers import settle
from asyncfetch.cache.buffers import BufferPool
from asyncfetch.cache.changes import confirm, forget, learn, remember
from asyncfetch.cache.checks import Check, Checks
from asyncfetch.cache.commands import Ask, Discard, LookUp, Note, Release, Write
from asyncfetch.cache.generations import lying
from asyncfetch.cache.line import BATCH_BODIES, BATCH_BYTES
from asyncfetch.cache.opening import open_parts
from asyncfetch.cache.partfile import PartFile
from asyncfetch.cache.parts import PartedBody
from asyncfetch.cache.partsink import Arrivals
from asyncfetch.cache.reads import Reads
from asyncfetch.cache.records import CacheStatistics
from asyncfetch.cache.recount import Recount
from asyncfetch.cache.recovery import Intents, clear, mend
from asyncfetch.cache.sinks import BodySink, SinkParts
from asyncfetch.cache.spill import Spill
from asyncfetch.cache.strikes import add, known
from asyncfetch.cache.syncer import Syncer
from asyncfetch.cache.thread import CacheThread
from asyncfetch.cache.work import Work
from asyncfetch.cache.writers import Writers
from asyncfetch.errors import CacheUnusable, FetcherClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.commands import Command, Later, Read
    from asyncfetch.cache.opening import Parts
    from asyncfetch.cache.partmap import Begun
    from asyncfetch.cache.records import CacheStats, Elsewhere, Found, Published, Ref, RefKey
    from asyncfetch.cache.sinks import Body, OnHead
    from asyncfetch.origins import checksums
    from asyncfetch.settings import CachePolicy

_T = TypeVar("_T")

# While bodies come close upon each other they are gathered so long: at 8,000 a second, 16 share a hop and a
# transaction.
LINGER_SECONDS = 0.002
_CLOSE_UPON = LINGER_SECONDS / 4  # apart further than this, a second one is not likely to come in time


class Cache:
    """One process's way into one cache directory, of one event loop.

    Answers come by calling `done` on the loop, in a batch with others, never before the method returns; an answer that
    is an exception is handed to it, not raised. Nothing is answered as stored before it lies whole under its name.
    Queues are as long as callers make them: look-ups by their window, bodies by the memory that they hold until they
    are answered.
    """

    @classmethod
    def open(cls, policy: CachePolicy, *, loop: asyncio.AbstractEventLoop, job_started: float | None = None) -> Cache:
        """Opens the cache that a policy names, and makes it if need be. Blocks for some milliseconds: for a thread.

        What is used from `job_started` on (seconds since 1970; None is now) is not evicted while this cache is open.
        Leftovers of processes that died are removed; an index that is damaged is replaced, with a warning in the log.
        Raises `CacheUnusable` where the directory cannot serve (it is a file, cannot be written, lies on a network file
        system, belongs to a newer version), `StorageFull` when its disk is full; then nothing is left open. What is
        returned must be closed, also when nobody waits for it any more.
        """
        return cls(policy, open_parts(policy, job_started), loop)

    def __init__(self, policy: CachePolicy, parts: Parts, loop: asyncio.AbstractEventLoop) -> None:
        """Takes over what `open`, which is to be called instead, has opened."""
        self._owner, self._index, self._blobs, self._read_only = parts.owner, parts.index, parts.blobs, parts.read_only
        self._partials = parts.partials
        self.root, self.at_hand = parts.blobs.root, parts.at_hand  # where its blobs lie; whether that is memory
        self.strikes = known(self._index)  # by digest, as of now
        self._loop = loop
        self._pool = BufferPool()
        self._writers = Writers()
        self._syncer = Syncer(loop, self._index, self._blobs, self._request) if parts.lasting else None
        self._spills: set[Spill | PartedBody] = set()  # begun, and neither whole nor aborted
        self.arrivals = Arrivals()
        self._windows: deque[memoryview] = deque()  # to read parts back into; as many as there are writer threads
        self._parts = SinkParts(self._pool, policy.digest, self._begin_spill, self.discard)
        self._gathered: list[Command] = []
        self._gathered_bytes = 0
        self._handed_in = 0.0  # when what was gathered last was
        self._timer: asyncio.Handle | None = None
        self._ended: asyncio.Future[None] | None = None
        self._intents = Intents(self._owner)
        self._work = Work(
            blobs=self._blobs,
            index=self._index,
            partials=self._partials,
            owner=self._owner,
            proofs=parts.proofs,
            limits=Limits(*policy.limits),
            intents=self._intents,
        )
        # Told what the header of a blob's image says, as a number. None where nothing is to be kept of that.
        self.on_header = None if parts.read_only else self._work.headers.hear
        self._thread = CacheThread(
            loop,
            self._work,
            index=self._index,
            owner=self._owner,
            writers=self._writers,
            intents=self._intents,
            at_hand=parts.at_hand,
            at_end=functools.partial(self._end, parts.at_end),
        )
        self._reads = Reads(
            loop, self._thread, at_hand=parts.at_hand, gather=self._gather_read, refuse_closed=self._refuse_closed
        )
        self._recount = Recount(loop, self._index, self._blobs, self._request, self._thread.look)
        self._checks = Checks(
            loop, self._writers, self._blobs, self._index, parts.proofs, self._work.damage, self._request
        )

    def look_up(
        self,
        keys: Sequence[RefKey],
        done: Callable[[list[Found | Elsewhere | None] | Exception], None],
        *,
        later: Later | None = None,
        stale: Callable[[int, Ref], bool] | None = None,
    ) -> None:
        """Asks which objects are here, each with a blob of the right size; the answers come in the order of the keys.

        Whether they are fresh is for `decide`. More than 256 keys in one call keep bodies waiting.

        With `later`, those that are not here will be fetched. Each is the caller's to fetch, until it is published
        or given up by `release`, or answered `ELSEWHERE`, because another process is bringing it; then `later` is told,
        of those that become known together, where each is, or None for one that is the caller's by now. So is each that
        is here and of which `stale` says, on the cache's thread and given its place among the keys, that it will be
        checked.
        """
        self._refuse_closed()
        self._gathered.append(LookUp(keys, done, later, stale))
        self._hand_in()

    def check(self, key: RefKey, found: Found, done: Callable[[bool | Exception], None]) -> None:
        """Has a blob hashed that there is a `doubt` about; True when its bytes are what they should be.

        One that is damaged is set aside, and `key` is not it any more, before that is answered. Others are hashed at
        the same time, and nothing waits for it but who asks.
        """
        self._refuse_closed()
        self._checks.put(Check(key, found, done))

    async def read(self, key: RefKey, may: Callable[[Ref], bool]) -> bytes | Exception | None:
        """The bytes of an object; None where it is not here, or `may` refuses its ref.

        `may` is called here or on the cache's thread. Others wait meanwhile, so it should refuse what is large. It
        returns without having waited where the loop may read the object at once, and has read little in this turn.
        """
        return await self._reads.read(key, may)

    def sink(self, *, on_length: Callable[[int], None] | None = None, on_head: OnHead | None = None) -> BodySink:
        """Makes a sink for one body. `on_length` is called once with its length, as soon as that is known.

        `on_head` is called before, by origins that know what is about to come, with that and the place of its first
        byte in the object; it may give another sink, such as a part of `parted`, to take it.
        """
        self._refuse_closed()
        return BodySink(self._parts, on_length, on_head)

    def parted(self, size: int, *, check: checksums.Check | None = None, begun: Begun | None = None) -> PartedBody:
        """Begins a body of known size, above 0, whose parts come at the same time, all held against `check`.

        With `begun` it goes on with what came of just that object in an earlier attempt, whoever made it, and may be
        left to a later one when it is aborted.
        """
        self._refuse_closed()
        body = PartedBody(
            size,
            PartFile(self._owner, self._partials, begun),
            self._parts.algorithm,
            self._writers,
            self._loop,
            pool=self._pool,
            windows=self._windows,
            arrivals=self.arrivals,
            discard=self.discard,
            make_room=self._thread.make_room,
            check=check,
            ended=self._spills.discard,
            left=self._thread.look,
        )
        self._spills.add(body)
        return body

    def publish(
        self,
        body: Body,
        key: RefKey | None,
        done: Callable[[Published | Exception], None],
        *,
        etag: str | None = None,
        last_modified: float | None = None,
        validated: float = 0.0,
    ) -> None:
        """Puts a body into the cache, and remembers that `key` is it, with what its origin said of it at `validated`.

        The body is the cache's from here on: its memory is back when `done` is called. Answers `StorageFull` or
        `CacheUnusable` when it could not be written, and then nothing of it is left. An index that cannot take the ref
        is no failure: the object is fetched once more some day.
        """
        release = self._take_over(body)
        if self._syncer is not None:
            self._syncer.wanted()
        change = None if key is None else learn(key, body.name, body.size, etag, last_modified, validated)
        self._gather(Write(body, release, done, key, change), body.size)

    def keep_private(self, body: Body, done: Callable[[Published | Exception], None]) -> None:
        """Puts a body into a file of this process alone, outside the cache, for `discard` or `aclose` to remove."""
        self._gather(Write(body, self._take_over(body), done, private=True), body.size)

    def discard(self, path: str) -> None:
        """Removes a file of `keep_private` soon; it is gone anyway once the cache is closed.

        Raises `ValueError` for any other path.
        """
        if not self._owner.owns(path):
            raise ValueError(f"{path} is not a private file of this cache")
        if self._ended is None:
            self._gather(Discard(path))

    def validate(self, key: RefKey, ref: Ref, at: float) -> None:
        """Remembers, soon, that the origin confirmed `ref` at a time, if `key` still is that. There is no answer."""
        self._refuse_closed()
        # A ref of the cache below cannot be changed: what is known of it now is known above.
        change = confirm(key, ref, at) if not self._read_only else remember(key, ref._replace(validated=at))
        self._note(Note(change, key, ref, at))

    def forget(self, key: RefKey) -> None:
        """Drops what is known of an object; look-ups do not find it from now on. Its blob stays. There is no answer."""
        self._refuse_closed()
        self._note(Note(forget(key), key))

    def release(self, key: RefKey) -> None:
        """Says that an object which was looked up to be fetched will not come. There is no answer."""
        if self._ended is None and key in self._work.claims.mine:
            self._gather(Release(key))

    def strike(self, digest: str, why: str) -> None:
        """Counts that bytes have killed who used them; `strikes` then says, soon, what all processes have counted."""
        self._request(functools.partial(add, self._index, digest, why, time.time()), self._struck)

    async def clear(self) -> CacheStats:
        """Removes all blobs and refs, of all processes, and returns what was removed.

        Safe beside other processes: what they have open they keep, and what they look for anew they fetch again.
        Private files and bodies under way are not touched. Cancelled, it goes on all the same. Raises `CacheUnusable`
        for one that is only read.
        """
        if self._read_only:
            raise CacheUnusable("A cache that is only read cannot be cleared")
        return await self._ask(self._clear)

    def statistics(self) -> CacheStatistics:
        """What was done so far, and what waits."""
        work, placing, buffers = self._work, self._work.placing, self._pool.statistics()
        return CacheStatistics(
            busy_seconds=work.busy_seconds,
            batches=work.batches,
            look_ups=work.tally.look_ups,
            hits=work.tally.hits,
            published=placing.published,
            stored=placing.stored,
            stored_bytes=placing.stored_bytes,
            private=placing.private,
            refused=placing.refused,
            awaited=work.awaited,
            evicted=work.room.evicted,
            evicted_bytes=work.room.evicted_bytes,
            damaged=work.damage.count,
            failed=work.failed,
            unremembered=work.unremembered,
            waiting=self._thread.waiting + len(self._gathered),
            buffer_bytes=buffers.in_use_bytes,
            idle_buffer_bytes=buffers.idle_bytes,
        )

    async def aclose(self) -> None:
        """Answers all that was handed in, then closes the index and removes this process's files, private ones too.

        Sinks that have not finished are aborted where a file is involved. Cancelled, it goes on all the same; another
        call waits for its end.
        """
        if self._ended is None:
            self._hand_in()
            self._ended = self._loop.create_future()
            for spill in list(self._spills):
                if isinstance(spill, PartedBody):
                    spill.abort(of_use=True)
                else:
                    spill.abort()
            self._checks.close()
            self._recount.close()
            if self._syncer is not None:
                self._syncer.close()
            self._writers.stop()
            self._thread.stop(functools.partial(settle, self._ended, None))
        await asyncio.shield(self._ended)

    def _note(self, note: Note) -> None:
        self._work.finding.note(note)
        self._gather(note)

    def _take_over(self, body: Body) -> Callable[[], None] | None:
        """Relieves the caller of a body. A file is for the thread to move or remove; memory is released on the loop."""
        self._refuse_closed()
        release = body.hand_over()
        return release if body.view is not None else None

    def _gather(self, command: Command, size: int = 0) -> None:
        """Hands a command in with those around it: at the end of this turn of the loop, or a little later."""
        self._gathered.append(command)
        self._gathered_bytes += size
        if len(self._gathered) >= BATCH_BODIES or self._gathered_bytes >= BATCH_BYTES:
            self._hand_in()
        elif self._timer is None:
            if time.monotonic() - self._handed_in < _CLOSE_UPON:
                self._timer = self._loop.call_later(LINGER_SECONDS, self._hand_in)
            else:
                self._timer = self._loop.call_soon(self._hand_in)

    def _gather_read(self, command: Read) -> None:
        """Hands a read in at the end of this turn of the loop, with all that was gathered before."""
        self._gathered.append(command)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self._hand_in)

    def _hand_in(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._handed_in = time.monotonic()
        if self._gathered:
            self._gathered_bytes = 0
            self._thread.put(self._gathered)  # in whose hands they are only once they are not in ours

    async def _ask(self, function: Callable[[], _T]) -> _T:
        self._refuse_closed()
        future: asyncio.Future[_T] = self._loop.create_future()
        self._gathered.append(Ask(function, functools.partial(settle, future)))
        self._hand_in()
        return await future

    def _request(self, function: Callable[[], object], done: Callable[[object], None]) -> None:
        """Has a function called on the cache's thread, if that is still there."""
        if self._ended is None:
            self._gathered.append(Ask(function, done))
            self._hand_in()

    def _end(self, at_end: Callable[[], None]) -> None:
        """On the cache's thread, which has nothing else to do any more."""
        if self._syncer is not None:
            self._syncer.join()
        self._recount.join()
        at_end()

    def _struck(self, strikes: object) -> None:
        if isinstance(strikes, dict):
            self.strikes = strikes

    def _clear(self) -> CacheStats:
        self._intents.declare_clear()
        gone = clear(self._index, self._blobs, self._partials)
        self._intents.fulfil()
        old = lying(self._index.directory)
        if self._owner.sweep():
            self._index.remove_others(old)
        mend(self._index, self._blobs, self._partials, self._owner)
        return gone

    def _begin_spill(self, check: checksums.Check | None) -> Spill:
        self._refuse_closed()
        spill = Spill(
            self._owner,
            self._parts.algorithm,
            self._writers,
            self._loop,
            give_back=self._pool.give,
            make_room=self._thread.make_room,
            check=check,
            ended=self._spills.discard,
        )
        self._spills.add(spill)
        return spill

    def _refuse_closed(self) -> None:
        if self._ended is not None:
            raise FetcherClosed("The cache is closed")
