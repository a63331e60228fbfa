"""Where the pixels of a batch are decoded to, so that it is one array when it is whole and nothing has to be moved."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.decode import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import DecodePool, Pixels, Slab


class Form(NamedTuple):
    """What rows of one array have in common."""

    shape: tuple[int, ...]
    dtype: Any
    size: int  # bytes

    @staticmethod
    def of(pixels: Pixels) -> Form:
        """The form of one image."""
        return Form(pixels.shape, pixels.dtype, pixels.nbytes)


class Seats:
    """Gives rows in the order in which it is asked for them, and makes arrays of what lies in them.

    Rows are given while the images are expected to be alike: as the first one was, or those of the batch before. A row
    whose image failed is given to the next that asks.
    """

    def __init__(self, pool: DecodePool, batch: int) -> None:
        self.form: Form | None = None  # that images are expected to have
        self.known = False  # whether it is known if there is one
        self.moved = 0  # images that did not lie in their places, and were copied
        self._pool = pool
        self._batch = batch
        self._slab: Slab | None = None
        self._next = 0
        self._free: list[Row] = []  # a heap

    def expect(self, form: Form | None) -> None:
        """Says how images will be, or that they are not alike."""
        self.known = True
        if form != self.form:
            self.form = form
            self._slab = None
            self._free.clear()

    def next(self) -> Row | None:
        """A row for the next image; None where images are not alike, or there is no memory for a batch of them."""
        if self._free:
            return heapq.heappop(self._free)
        if self._slab is None:
            self._next = 0
            self._slab = None if self.form is None else self._pool.slab(self._batch, self.form.size)
            if self._slab is None:
                return None
        row = Row(self._slab, self._next)
        self._next += 1
        if self._next == self._batch:
            self._slab = None
        return row

    @property
    def left(self) -> int:
        """Rows that it has memory for, and has not given."""
        return len(self._free) + (0 if self._slab is None else self._batch - self._next)

    def free(self, row: Row) -> None:
        """Takes back a row whose image will not come."""
        if self.form is not None and row.capacity == self.form.size:
            heapq.heappush(self._free, row)

    def array(
        self, images: Sequence[Pixels], rows: Sequence[Row | None], settled: Sequence[bool]
    ) -> tuple[Pixels, Sequence[int]] | None:
        """The images as one array, which is where they lie if that can be; None where they are not alike.

        `rows` are theirs, `settled` whether each lies in its own. What does not lie in its place is copied there; the
        second that is given are the numbers of these, which are not to be used any more but as rows of the array.
        """
        form = Form.of(images[0])
        shape, dtype = form.shape, form.dtype
        for image in images:
            if image.shape != shape or image.dtype != dtype:
                self.expect(None)
                return None
        self.expect(form)
        slab = _common(rows)
        if slab is None or slab.size != form.size:
            slab, settled = self._pool.slab(len(images), form.size, alone=True), [False] * len(images)
            if slab is None:
                import numpy as np

                return np.stack(images), range(len(images))
        array = slab.array(len(images), form.shape, form.dtype)
        astray = [
            at
            for at, (row, lies) in enumerate(zip(rows, settled, strict=True))
            if not lies or row is None or row.index != at
        ]
        for at, image in [(at, images[at].copy()) for at in astray]:
            array[at] = image
        self.moved += len(astray)
        slab.written()
        return array, astray

    def close(self) -> None:
        """Lets go of what no image came to lie in."""
        self.expect(None)


def _common(rows: Sequence[Row | None]) -> Slab | None:
    """The slab whose first rows these are, in any order; then nobody else's image lies between them."""
    slab = rows[0].slab if rows[0] is not None else None
    found = {row.index for row in rows if row is not None and row.slab is slab}
    return slab if found == set(range(len(rows))) else None
