"""The cache's one thread: takes all that has been handed in as one batch, and answers it all in one call on the loop.

A batch answers look-ups first, then writes bodies and renames them into place, then changes the index in one
transaction. A hop between threads costs some 80 us, a transaction 30: neither can be paid for each object.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.cache import files
from asyncfetch.cache.changes import met, remember, stored
from asyncfetch.cache.failures import explain
from asyncfetch.cache.records import Found, Published
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncfetch.cache.blobs import Blobs
    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.index import Index
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.records import Ref, RefKey
    from asyncfetch.cache.sinks import Body
    from asyncfetch.cache.writers import Writers

_log = logging.getLogger(__name__)

# What look-ups handed in meanwhile wait for at most: 64 bodies of 86 KB take 3 ms into memory, 16 MiB take 15 ms.
BATCH_BODIES = 64
BATCH_BYTES = 16 * MIB
BATCH_CHANGES = 1024  # to the index alone, at 3 to 9 us each
BATCH_LOOK_UPS = 256  # keys, at 10 us each


class LookUp(NamedTuple):
    """Which of these objects are here?"""

    keys: Sequence[RefKey]
    done: Callable[[list[Found | None] | Exception], None]


class Read(NamedTuple):
    """The bytes of this object, if it is here and `may` says of its ref that they may be given out as they are."""

    key: RefKey
    may: Callable[[Ref], bool]
    done: Callable[[bytes | Exception | None], None]


class Write(NamedTuple):
    """Put this body under its name, and remember that `key` is `ref`; or, `private`, into a file outside the cache."""

    body: Body
    release: Callable[[], None] | None  # called on the loop once the body is not needed any more
    key: RefKey | None
    ref: Ref | None
    private: bool
    done: Callable[[Published | Exception], None]


class Note(NamedTuple):
    """Change the index. Look-ups that overtake it find `key` as it will be: gone, or `ref` as checked at `at`."""

    change: Change
    key: RefKey
    ref: Ref | None = None
    at: float = 0.0


class Discard(NamedTuple):
    """Remove a private file."""

    path: str


class Ask(NamedTuple):
    """Call a function on the thread, between batches, in its turn among the writes."""

    function: Callable[[], object]
    done: Callable[[object], None]  # gets the exception instead when it raised one


Command = LookUp | Read | Write | Note | Discard | Ask


class _Answer(NamedTuple):
    done: Callable[[Any], None]  # which takes just what its command asked for, or an exception
    result: object
    release: Callable[[], None] | None = None


class CacheThread:
    """The thread. `put` and `stop` are for the loop, counters may be read by anybody, the rest is the thread's own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, blobs: Blobs, index: Index, owner: Owner, writers: Writers
    ) -> None:
        self._loop, self._blobs, self._index, self._owner, self._writers = loop, blobs, index, owner, writers
        self._mailbox: SimpleQueue[Sequence[Command] | None] = SimpleQueue()
        self._look_ups: deque[LookUp | Read] = deque()
        self._writes: deque[Write | Note | Discard | Ask] = deque()
        self._noted: dict[RefKey, Note] = {}  # the last note on each object in `_writes`, which look-ups overtake
        self._stopping = False
        self._stopped: Callable[[], None] | None = None
        self.busy_seconds = 0.0
        self.batches = self.look_ups = self.hits = 0
        self.published = self.stored = self.stored_bytes = self.private = self.failed = self.unremembered = 0
        self.waiting = 0
        # A daemon: a program that never closes its cache can end, and the cache bears being ended anywhere.
        self._thread = threading.Thread(target=self._run, name="asyncfetch-cache", daemon=True)
        self._thread.start()

    def put(self, commands: Sequence[Command]) -> None:
        """Hands in commands, to be answered on the loop in any order."""
        self.waiting += len(commands)
        self._mailbox.put(commands)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Ends the thread when all is answered that was handed in, closes what it has, calls `stopped` on the loop."""
        self._stopped = stopped
        self._mailbox.put(None)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._index.close()
            self._writers.stop()
            self._writers.join()
            with contextlib.suppress(OSError):
                self._owner.close()
            self._tell(self._ended)

    def _serve(self) -> None:
        while self._receive():
            began = time.perf_counter()
            answers: deque[_Answer] = deque()
            self._follow()
            handled = self._answer_look_ups(answers) + self._do_writes(answers)
            self.batches += 1
            # Counted before it is told, so that whoever was answered sees it in the statistics.
            self.busy_seconds += time.perf_counter() - began
            if not self._tell(self._deliver, handled, answers):
                break

    def _receive(self) -> bool:
        """Takes what is in the mailbox, waiting when there is nothing else to do. False at the end of all work."""
        while True:
            idle = not self._look_ups and not self._writes
            try:
                mail = self._mailbox.get(idle and not self._stopping)
            except Empty:
                return not idle
            if mail is None:
                self._stopping = True
                continue
            for command in mail:
                if isinstance(command, LookUp | Read):
                    self._look_ups.append(command)
                    continue
                self._writes.append(command)
                if isinstance(command, Note):
                    self._noted[command.key] = command

    def _tell(self, function: Callable[..., None], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed before the cache: nobody is left to hear an answer
            return False
        return True

    def _deliver(self, handled: int, answers: deque[_Answer]) -> None:
        """On the loop: calls back for one batch."""
        self.waiting -= handled
        try:
            while answers:
                answer = answers.popleft()
                try:
                    if answer.release is not None:
                        answer.release()
                    answer.done(answer.result)
                except Exception as error:  # one caller's fault is no reason to leave the others waiting
                    self._loop.call_exception_handler(
                        {"message": "an answer of the cache could not be taken", "exception": error}
                    )
        finally:
            if answers:  # a KeyboardInterrupt came out of a callback
                self._loop.call_soon(self._deliver, 0, answers)

    def _ended(self) -> None:
        """On the loop: the thread has nothing more to do than to return."""
        self._thread.join()
        if self._stopped is not None:
            self._stopped()

    def _follow(self) -> None:
        try:
            self._index.follow()
        except OSError:  # the directory cannot even be looked at: reads and writes will say why
            _log.debug("the index could not be looked at", exc_info=True)
        except Exception:  # a fault of ours must not end the thread: everybody would wait for ever
            _log.exception("the index could not be followed")

    def _change_index(self, changes: Sequence[Change]) -> bool:
        try:
            return self._index.apply(changes)
        except Exception:  # as above; and the blobs of these changes are in their places
            _log.exception("the index could not be changed")
            return False

    def _answer_look_ups(self, answers: deque[_Answer]) -> int:
        handled = keys = 0
        while self._look_ups and (not handled or keys + _weight(self._look_ups[0]) <= BATCH_LOOK_UPS):
            command = self._look_ups.popleft()
            handled, keys = handled + 1, keys + _weight(command)
            result: list[Found | None] | bytes | Exception | None
            try:
                result = self._find(command.keys) if isinstance(command, LookUp) else self._read(command)
            except OSError as error:
                result = explain(error, self._blobs.root)
            except Exception as error:  # whoever asked gets it; the thread serves others too
                result = error
            answers.append(_Answer(command.done, result))
        return handled

    def _find(self, keys: Sequence[RefKey]) -> list[Found | None]:
        found: list[Found | None] = []
        for key, known in zip(keys, self._index.find(keys), strict=True):
            ref, path = known and known.ref, None
            if (note := self._noted.get(key)) is not None:
                ref = _as_noted(ref, note)
            if ref is not None:
                path = self._blobs.find(ref.digest, ref.size)
            found.append(None if ref is None or path is None else Found(ref, path))
            self.hits += path is not None
        self.look_ups += len(keys)
        return found

    def _read(self, command: Read) -> bytes | None:
        (known,) = self._index.find([command.key])
        ref = known and known.ref
        if (note := self._noted.get(command.key)) is not None:
            ref = _as_noted(ref, note)
        self.look_ups += 1
        if ref is None or not command.may(ref):
            return None
        data = self._blobs.read(ref.digest, ref.size)
        self.hits += data is not None
        return data

    def _do_writes(self, answers: deque[_Answer]) -> int:
        changes: list[Change] = []
        placed: list[Change] = []  # apart, as many rows for one statement cost less than two statements in turn
        noted: list[Note] = []
        handled = bodies = size = 0
        while self._writes and bodies < BATCH_BODIES and size < BATCH_BYTES and len(changes) < BATCH_CHANGES:
            if isinstance(self._writes[0], Ask) and handled:
                break
            command = self._writes.popleft()
            handled += 1
            if isinstance(command, Write):
                bodies, size = bodies + 1, size + (0 if command.body.view is None else command.body.size)
                result = self._write(command, changes, placed)
                answers.append(_Answer(command.done, result, command.release))
            elif isinstance(command, Note):
                changes.append(command.change)
                noted.append(command)
            elif isinstance(command, Discard):
                _discard(command.path)
            else:
                answers.append(_Answer(command.done, self._ask(command.function)))
                break
        if (changes or placed) and not self._change_index(changes + placed):
            self.unremembered += len(changes)
        for note in noted:
            if self._noted.get(note.key) is note:
                del self._noted[note.key]
        return handled

    def _write(self, command: Write, changes: list[Change], placed: list[Change]) -> Published | Exception:
        body = command.body
        try:
            path, new = self._place(body, command.private)
        except Exception as error:  # whoever handed this body in gets it; the thread serves others too
            self.failed += 1
            if body.path:
                _discard(body.path)
            return explain(error, self._blobs.path(body.digest)) if isinstance(error, OSError) else error
        if command.private:
            self.private += 1
        else:
            self.published += 1
            self.stored += new
            self.stored_bytes += body.size if new else 0
            placed.append((stored if new else met)(body.digest, body.size, time.time()))
            if command.key is not None and command.ref is not None:
                changes.append(remember(command.key, command.ref))
        return Published(path, body.digest, body.size, new)

    def _place(self, body: Body, private: bool) -> tuple[str, bool]:
        if private:
            return body.path if body.view is None else self._blobs.keep(body.view), True
        if body.view is None:
            return self._blobs.adopt(body.digest, body.size, body.path)
        return self._blobs.put(body.digest, body.view)

    def _ask(self, function: Callable[[], object]) -> object:
        try:
            return function()
        except OSError as error:
            return explain(error, self._blobs.root)
        except Exception as error:  # whoever asked gets it
            return error


def _weight(command: LookUp | Read) -> int:
    """How many look-ups a command is worth in a batch: reading 86 KB takes as long as three."""
    return len(command.keys) if isinstance(command, LookUp) else 4


def _as_noted(ref: Ref | None, note: Note) -> Ref | None:
    """What the index will say of an object once it has taken the note."""
    if ref is None or note.ref is None:
        return None
    if (ref.digest, ref.etag) != (note.ref.digest, note.ref.etag):
        return ref
    return ref._replace(validated=note.at)


def _discard(path: str) -> None:
    try:
        files.remove(path)
    except OSError as error:
        _log.warning("%s could not be removed now (%s); it goes with its directory", path, error)
