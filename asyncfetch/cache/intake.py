"""The next bytes of a large body on the thread that receives them, which hashes and writes them there and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.cache.partsink import Arrivals


class Intake:
    """What `http.Intake` asks for: up to `left` bytes of a body, brought to the disk a buffer at a time.

    Each read, each digest and each write lets go of the interpreter, and takes turns with the other threads to have it
    again: that costs more than what a smaller buffer would gain by lying in a core's own cache.

    `at` is where in the body the next byte belongs that is to be written.
    """

    __slots__ = ("_arrivals", "_buffer", "_filled", "_over", "_write", "at", "left")

    def __init__(
        self,
        buffer: memoryview,
        filled: int,
        left: int,
        at: int,
        *,
        write: Callable[[memoryview, int], None],
        over: Callable[[Intake, memoryview], None],
        arrivals: Arrivals | None = None,
    ) -> None:
        """The first `filled` bytes of the buffer, not all, are there and still to be written.

        `write` gets bytes and their place in the body, and `over` the buffer when nothing more will come; both here on
        the thread. What `write` raises ends it.
        """
        self._buffer = buffer
        self._filled = filled
        self.left = left
        self.at = at
        self._write, self._over = write, over
        self._arrivals = arrivals

    def get_buffer(self) -> memoryview:
        """Room for the next bytes, never empty, nor for more than are `left`."""
        return self._buffer[self._filled : self._filled + self.left]

    def advance(self, count: int) -> None:
        """Takes the first `count` bytes of it as written, and brings them to the disk when they are enough."""
        if self._arrivals is not None:
            self._arrivals.add(count, min(len(self._buffer) - self._filled, self.left))
        self._filled += count
        self.left -= count
        if self._filled == len(self._buffer):
            self._hand_on()

    def close(self) -> None:
        """Brings what there is to the disk, and gives the memory back."""
        try:
            if self._filled:
                self._hand_on()
        finally:
            self._over(self, self._buffer)

    def _hand_on(self) -> None:
        count, self._filled = self._filled, 0
        self._write(self._buffer[:count], self.at)
        self.at += count
