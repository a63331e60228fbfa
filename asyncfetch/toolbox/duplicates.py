"""Which images look alike: 64-bit hashes that differ in few bits, found without comparing each with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

MOST_DISTANCE = 11  # bits; beyond that hashes of different images meet by chance, and tables of 16 bits help little
_PARTS, _BITS = 4, 16
_AT_ONCE = 1 << 20  # candidates that are compared in one go, of 24 bytes or so each


def alike(hashes: Sequence[int], distance: int) -> list[int | None]:
    """Says for each hash the index of the first that it is like, None for those that begin a group of their own.

    It is like one that differs from it in at most `distance` bits and comes before it, the first such one that is like
    none itself: so no chain leads from an image to one that looks different.

    By multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): of two hashes that differ in at most `distance` bits
    one of four parts differs in at most a quarter of these, and such parts are looked up in tables.
    """
    import numpy as np

    if not 0 <= distance <= MOST_DISTANCE:
        raise ValueError(f"distance must be from 0 to {MOST_DISTANCE} bits, not {distance}")
    if not hashes:
        return []
    unique, first, which = np.unique(np.array(hashes, np.uint64), return_index=True, return_inverse=True)
    order = np.argsort(first)  # what comes first leads
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    leader: list[int | None] = [None] * len(unique)  # by rank
    earlier: dict[int, list[int]] = {}
    for one, other in _pairs(unique[order], distance):
        earlier.setdefault(other, []).append(one)
    for rank in sorted(earlier):
        leader[rank] = min((one for one in earlier[rank] if leader[one] is None), default=None)
    indices = first[order].tolist()
    result: list[int | None] = []
    for index, rank in enumerate(ranks[which.ravel()].tolist()):
        head = leader[rank]
        at = indices[rank if head is None else head]
        result.append(None if at == index else at)
    return result


def _pairs(hashes: npt.NDArray[Any], distance: int) -> Iterator[tuple[int, int]]:
    """All pairs of places, the earlier first, whose hashes differ in at most so many bits, some of them repeatedly."""
    import numpy as np

    everyone = np.arange(len(hashes))
    for part in range(_PARTS):
        keys = (hashes >> np.uint64(part * _BITS) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << _BITS) + 1))
        for mask in _masks(distance // _PARTS):
            wanted = keys ^ mask
            counts = starts[wanted + 1] - starts[wanted]
            ends = np.cumsum(counts)
            at = 0
            while at < len(hashes):
                base = ends[at - 1] if at else 0
                to = max(at + 1, int(np.searchsorted(ends, base + _AT_ONCE)))
                some = counts[at:to]
                one = np.repeat(everyone[at:to], some)
                begins = np.repeat(starts[wanted[at:to]] - (ends[at:to] - some - base), some)
                other = order[begins + np.arange(len(one))]
                near = (one < other) & (_differing(hashes[one] ^ hashes[other]) <= distance)
                yield from zip(one[near].tolist(), other[near].tolist(), strict=True)
                at = to


def _masks(radius: int) -> list[int]:
    """All numbers of 16 bits in which at most `radius` are set."""
    masks = {0}
    for _ in range(radius):
        masks |= {mask ^ 1 << bit for mask in masks for bit in range(_BITS)}
    return sorted(mask for mask in masks if mask.bit_count() <= radius)


def _differing(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The bits that are set in each (Warren, Hacker's Delight, section 5-1): NumPy 1.26 has no such function."""
    import numpy as np

    one = np.uint64
    values = values - (values >> one(1) & one(0x5555555555555555))
    values = (values & one(0x3333333333333333)) + (values >> one(2) & one(0x3333333333333333))
    values = values + (values >> one(4)) & one(0x0F0F0F0F0F0F0F0F)
    return (values * one(0x0101010101010101)) >> one(56)
