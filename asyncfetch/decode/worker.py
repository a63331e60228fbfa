"""The program that a decode worker runs: orders in, images decoded into shared memory, answers out.

It imports nothing of the package but what it works with, so that it starts fast and stays small, and ends when its
socket closes, whatever it is doing then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from asyncfetch.decode.forms import MOST_FORMS, Form, ImageFile, Limits
from asyncfetch.decode.headers import read_header
from asyncfetch.decode.packing import pack as pack_value
from asyncfetch.decode.reading import Reader, read_whole
from asyncfetch.decode.shared import map_file
from asyncfetch.decode.sniff import HEAD
from asyncfetch.decode.summary import summarize
from asyncfetch.decode.wire import FOR_PARENT, KEPT_HEAP, STATUS, Unpacker, pack

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from types import FrameType

    from asyncfetch.decode.headers import Header
    from asyncfetch.decode.transforms import Function

    _Room: TypeAlias = mmap.mmap | memoryview
    # Shape and dtype of an array, or the spans of a pickled value, or the bytes that would be needed.
    _Placed: TypeAlias = tuple[tuple[int, ...], str] | list[tuple[int, int]] | int

# Answers go out when there is nothing else to do, and so many at a time or so often: what costs the loop is the frame.
# It is woken with other programs' data in its caches, which made it spend a third more on an image in groups of 16 than
# in groups of 32. The pool sends more when it hears of them; until then a worker has 16 others, or what takes 25 ms.
_FLUSH_ANSWERS = 24
_FLUSH_SECONDS = 0.045
_LONG_BLOB = 1 << 20  # an image of so many bytes takes tens of milliseconds; answers are not kept waiting for it
_MOST_STDERR = 64 << 10
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def main(channel: int, status: int, limits: Limits) -> None:
    """Works for the pool at the other end of `channel`, a socket's descriptor, until that closes."""
    # The parent ends its workers: what they have under way it may want yet. Heard and passed over, not ignored nor
    # blocked any longer: a program that a user's function starts would inherit that, and could not be terminated.
    for number in FOR_PARENT:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _pass_over)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_PARENT)
    with contextlib.suppress(ConnectionError):
        pool = socket.socket(fileno=channel)
        threading.Thread(target=_leave_with, args=(channel,), daemon=True).start()
        _keep_heap()
        _Worker(pool, map_file(status, STATUS.size), limits).serve()
    os._exit(0)  # the destructors of the libraries have nothing to save


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Does nothing: the signal was heard."""


class _Worker:
    def __init__(self, pool: socket.socket, status: mmap.mmap, limits: Limits) -> None:
        # Here and not above: without OpenCV the program should get as far as saying so on stderr.
        from asyncfetch.decode import codecs

        self._codecs = codecs
        self._limits = limits
        self._pool = pool
        self._status = memoryview(status).cast("Q")
        self._slots: dict[int, mmap.mmap] = {}
        self._forms: dict[int, tuple[Form, list[Function]]] = {}
        self._reader = Reader()
        self._seen: tuple[str, Header] | None = None  # of the image under way
        self._answers: list[Any] = []
        self._unheard = 0  # images that these are of
        self._flushed = 0.0
        codecs.prepare()
        _limit_memory(limits.memory)

    def serve(self) -> None:
        """Greets, then obeys until the socket closes."""
        self._pool.sendall(pack([]))
        for (made, dropped, frugal, groups), descriptors in self._orders():
            for number in dropped:
                del self._slots[number]
            for number, capacity in made:
                descriptor = descriptors.popleft()
                self._slots[number] = map_file(descriptor, capacity)
                os.close(descriptor)
            if frugal:
                self._reader.shrink()
                _trim_heap()
            for group in groups:
                self._work(*group)
            if os.fstat(2).st_size > _MOST_STDERR:  # image libraries write there, and the disk behind it is memory
                os.ftruncate(2, 0)

    def _orders(self) -> Iterator[tuple[list[Any], deque[int]]]:
        """Orders as they come, with the queue of descriptors, which arrive no later than the order that needs them."""
        unpacker, descriptors = Unpacker(), deque[int]()
        more = select.poll()
        more.register(self._pool, select.POLLIN)
        while True:
            if not more.poll(0):
                self._flush()
            data, received, flags, _ = socket.recv_fds(self._pool, 64 << 10, 64)
            if not data:
                return
            if flags & socket.MSG_CTRUNC:
                raise OSError(errno.EMFILE, "a slot's descriptor was lost: too many open files")
            descriptors.extend(received)
            for orders in unpacker.feed(data):
                yield orders, descriptors

    def _work(
        self, slot: int, size: int, allowance: int, form: int, tell: bool, images: list[Any], told: Any = None
    ) -> None:
        if told is not None:
            if len(self._forms) == MOST_FORMS:
                self._forms.clear()
            self._forms[form] = Form(*told), []
        rows, run = memoryview(self._slots[slot]) if size else None, False
        for number, path, epoch, index, row in images:
            self._status[1], self._status[2] = time.monotonic_ns(), 0
            self._status[0] = number  # if this image kills this process, the pool reads here which one it was
            begun = time.perf_counter()
            room = self._slots[row] if rows is None else rows[row * size : (row + 1) * size]
            word, detail = self._attempt(room, path, allowance, form, epoch, index)
            headers = [self._header(form)] if tell or word == "needs" else []
            now = time.perf_counter()
            self._status[0] = 0
            run = self._note(number, now - begun, word, detail, headers, run=run)
            if self._unheard >= _FLUSH_ANSWERS or now - self._flushed > _FLUSH_SECONDS:
                self._flush()

    def _note(
        self, number: int, seconds: float, word: str, detail: Any, headers: list[int | None], *, run: bool
    ) -> bool:
        """Adds an answer, or to the last one where an image of the same group came out the same, and `run` says so."""
        self._unheard += 1
        made = word == "pixels"
        last = self._answers[-1] if made and run and self._answers else None
        if last is not None and last[4][:2] == detail[:2]:
            last[1] += 1
            last[2] += seconds
            last[4] = max(last[4], detail)
            if headers:
                last[5] += headers
        else:
            self._answers.append([number, 1, seconds, word, detail, *([headers] if headers else [])])
        return made

    def _header(self, form: int) -> int | None:
        """What the header of the last image says, as far as it was read."""
        return self._seen and summarize(*self._seen, self._forms[form][0].page)

    def _attempt(self, slot: _Room, path: str, allowance: int, number: int, epoch: int, index: int) -> tuple[str, Any]:
        codecs, reader = self._codecs, self._reader
        form, _ = self._forms[number]
        placed: _Placed
        self._seen = None
        try:
            if form.takes != "pixels":
                return self._map(slot, path, allowance, number, epoch, index)
            kind = codecs.check(bytes(reader.open(path, HEAD)[:HEAD]))
            data, size = reader.look()
            if size > _LONG_BLOB:
                self._flush()
            header = read_header(kind, data, form.page)
            self._seen = kind, header
            need = codecs.weigh(kind, header, form, self._limits, size)
            if need.pixels > len(slot) or need.scratch > allowance:
                return "needs", need
            image = codecs.decode(reader.read(), kind, header, form)
            if form.transform or form.calls:
                given: tuple[Any, ...] = (codecs.arrange(image, form),)
                if form.transform and form.with_file:
                    given += (ImageFile(kind, *header[:4], reader.read()),)
                placed = self._call(given, number, epoch, index, slot)
            else:
                placed = codecs.place(image, form, slot)
        except codecs.UndecodableError as error:
            return error.word, error.detail
        except FileNotFoundError:
            return "missing", f"its file {path} is not there any more"
        except PermissionError:
            return "denied", f"its file {path} may not be read by this user"
        except OSError as error:
            return "failed", f"its file {path} could not be read: {error.strerror}"
        except MemoryError:
            return "memory", "there was not enough memory to decode it"
        except Exception as error:  # one image must not end the worker
            return "failed", f"decoding failed with {type(error).__name__}: {error}"
        finally:
            reader.close()
        return _answer(placed, need.scratch)

    def _map(self, slot: _Room, path: str, allowance: int, number: int, epoch: int, index: int) -> tuple[str, Any]:
        """Calls functions on a file, or on its bytes, without decoding anything."""
        form, _ = self._forms[number]
        size = os.stat(path).st_size  # noqa: PTH116 - as the rest of the reading
        need = 2 * size  # with as much again for what is made of it, which nobody knows before
        if need > self._limits.memory:
            raise self._codecs.UndecodableError("memory", f"its {size >> 20} MiB may take twice as much in the worker")
        if need > allowance:
            return "needs", (0, need)
        if size > _LONG_BLOB:
            self._flush()
        given = read_whole(path) if form.takes == "bytes" else Path(path)
        return _answer(self._call((given,), number, epoch, index, slot), need)

    def _call(self, given: tuple[Any, ...], number: int, epoch: int, index: int, slot: _Room) -> _Placed:
        """Calls the functions of a form, one with what the other gave, and writes what comes of it to the slot."""
        import numpy as np

        from asyncfetch.decode.transforms import Function, Transform, TransformError, describe

        form, functions = self._forms[number]
        seeds = [form.seed] * bool(form.transform) + [seed for _, seed in form.calls]
        self._status[2] = 1
        try:
            if not functions:
                functions += [Transform(form.transform)] if form.transform else []
                functions += [Function(code, "the mapped function") for code, _ in form.calls]
            for function, seed in zip(functions, seeds, strict=True):
                given = (function(given, seed, epoch, index),)
            [value] = given
            if not form.calls or (type(value) is np.ndarray and value.dtype.kind in "?biufc"):
                return self._codecs.put(value, slot, self._limits.memory)
            try:
                return pack_value(value, slot, self._limits.memory)
            except MemoryError:
                raise
            except Exception as error:  # whatever the objects in it may raise
                what = f"{type(value).__name__}, which cannot be pickled: {describe(error)}"
                raise TransformError(f"the mapped function gave a value of the type {what}") from None
        except MemoryError as error:
            what = f"what {functions[-1].name} gave is too large to be handed over: {error}"
            raise self._codecs.UndecodableError("memory", what) from None
        except TransformError as error:
            raise self._codecs.UndecodableError("transform", str(error)) from None

    def _flush(self) -> None:
        if self._answers:
            self._pool.sendall(pack(self._answers))
            self._answers.clear()
            self._unheard = 0
        self._flushed = time.perf_counter()


def _answer(placed: _Placed, scratch: int) -> tuple[str, Any]:
    if isinstance(placed, int):
        return "needs", (placed, scratch)
    return ("value", (placed, scratch)) if isinstance(placed, list) else ("pixels", (*placed, scratch))


def _leave_with(channel: int) -> None:
    """Ends the process when the other end of the socket has closed, also in the middle of an image."""
    watch = select.poll()
    watch.register(channel, 0)  # POLLHUP is reported unasked
    if watch.poll():
        os._exit(0)


def _limit_memory(most: int) -> None:
    """Has the system refuse this process more than so many bytes beside what it has now. Slots do not count.

    macOS knows the limit and does not enforce it.
    """
    with contextlib.suppress(OSError, ValueError):  # a lower limit was set by who started us
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + most, resource.RLIM_INFINITY))


def _keep_heap() -> None:
    """Has malloc keep the memory of one image for the next.

    By default glibc maps what is larger than 32 MiB anew each time and trims the rest: page faults were half of the
    time for a JPEG of 12 megapixels (35 ms, and 19 with this).
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, KEPT_HEAP)
        mallopt(_M_TRIM_THRESHOLD, KEPT_HEAP)


def _trim_heap() -> None:
    """Has malloc give back to the system what it keeps."""
    library = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # glibc
        library.malloc_trim(0)
        return
    with contextlib.suppress(AttributeError):  # macOS
        library.malloc_zone_pressure_relief(None, ctypes.c_size_t(0))
