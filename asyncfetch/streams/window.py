"""How many sources a run reads ahead of its consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Sources read ahead at most, beside those whose items are made: what waits on disk holds no memory but that of its slot
# and its path, of which there is one for so many bytes of the budget. Twice as many cost an entry some 4 % more,
# whose memory is then no longer in a processor's cache.
_DEEPEST, _BYTES_EACH = 2048, 64 << 10


class Window(NamedTuple):
    """`items` are read ahead, and so many `batches` more where the consumer takes such.

    In a `deep` one those that are made ahead of a late consumer do not count, and others may wait on disk for it.
    """

    items: int
    batches: int = 0
    deep: bool = False

    def deepest(self, budget: int, sizes: Sequence[int]) -> int:
        """How many may be read ahead in all, by the sizes of some: no more bytes of them than the budget."""
        if not self.deep or not sizes:
            return self.items
        return max(self.items, min(_DEEPEST, budget // _BYTES_EACH, budget * len(sizes) // max(1, sum(sizes))))
