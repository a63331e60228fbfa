"""The slots of shared memory that pixels come in: made, lent to users, reused, given up.

A slot is made for one worker, which maps it once. It is free, or serves a job, or is lent. What is lent lives as long
as anything that looks at it: the finalizer hangs on the exporter of the buffer, below every array, because NumPy lets
a crop of an array drop the array itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncfetch.decode.shared import anonymous_file, map_file

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable, Iterator

    from asyncfetch.decode.budget import Budget, Grant
    from asyncfetch.decode.forms import Pixels

_LEAST_STEP = 16 << 10  # the largest page of our platforms (Apple silicon)


@cache
def needs_that_fit(capacity: int) -> range:
    """What may be given a slot of a size; one more than twice too large would lock up memory that others could use."""
    return range(max(1, -(-(capacity - _LEAST_STEP) // 2)), capacity + 1)


def slot_capacity(need: int) -> int:
    """The size class for so many bytes. There are four to the doubling: above 64 KiB a quarter is wasted at most."""
    step = max(_LEAST_STEP, 1 << max(0, (need - 1).bit_length() - 3))
    return -(-need // step) * step


class Owner(Protocol):
    """The worker that a slot was made for."""

    def introduce(self, slot: Slot) -> None:
        """Has the worker map a slot before its next job."""
        ...

    def forget(self, slot: Slot) -> None:
        """Has the worker unmap a slot."""
        ...


class Slot:
    """A piece of shared memory, charged to the budget from its making to its end."""

    __slots__ = ("_layout", "_memory", "capacity", "descriptor", "grant", "number", "overdrawn", "owner")

    def __init__(self, number: int, capacity: int, owner: Owner, grant: Grant, *, overdrawn: bool) -> None:
        self.number = number
        self.capacity = capacity
        self.owner = owner
        self.grant = grant
        self.overdrawn = overdrawn
        # Open until the worker has surely received it: macOS can lose a descriptor that is closed in flight
        # (https://github.com/nodejs/node/issues/7512).
        self.descriptor: int | None = anonymous_file(capacity)
        try:
            self._memory: mmap.mmap | None = map_file(self.descriptor, capacity)
        except OSError:
            self.close_descriptor()
            raise
        self._layout = ctypes.c_char * capacity

    def exporter(self) -> ctypes.Array[ctypes.c_char]:
        """A new object that exports the memory as a buffer and keeps it mapped."""
        assert self._memory is not None
        return self._layout.from_buffer(self._memory)

    def deliver(self) -> None:
        """Says that what it was made for is done, whatever came of it: another slot may be overdrawn now."""
        if self.overdrawn:
            self.overdrawn = False
            self.grant.correct(self.capacity)
            self.grant.delivered()

    def close_descriptor(self) -> None:
        """Closes the file; what is mapped stays."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def destroy(self) -> None:
        """Unmaps, now or when the last view has gone, and gives the bytes back."""
        self._memory = None
        self.close_descriptor()
        self.grant.release()


class _Lease(weakref.ref["ctypes.Array[ctypes.c_char]"]):
    """Watches the exporter of one lent slot."""

    __slots__ = ("slot",)

    slot: Slot


class ArenaStatistics(NamedTuple):
    """What the slots hold, in bytes of capacity."""

    slots: int
    slot_bytes: int
    free_slot_bytes: int


class Arena:
    """All slots of a pool.

    `wake` is called when a lent slot came back, on any thread, also inside a garbage collection. Everything else
    belongs to the loop's thread.
    """

    def __init__(self, budget: Budget, wake: Callable[[], None]) -> None:
        self._budget = budget
        self._wake = wake
        self._made = 0
        self._slots: set[Slot] = set()
        self._free: dict[Owner, dict[int, list[Slot]]] = {}
        self._leases: dict[Slot, _Lease] = {}  # what is lent
        self._returned: deque[Slot] = deque()
        self._watch = self._came_back
        self._choosing = False
        self._closed = False

    def admit(self, owner: Owner) -> None:
        """Knows a worker from now on."""
        self._free[owner] = {}

    def expel(self, owner: Owner) -> None:
        """Gives up the free slots of a worker that is no more; what it lent is given up when it comes back."""
        for slots in self._free.pop(owner).values():
            for slot in slots:
                self._destroy(slot)

    def find(self, owner: Owner, need: int) -> Slot | None:
        """Takes a free slot of a worker which is large enough, and not more than twice as large."""
        shelves = self._free[owner]
        for capacity in (slot_capacity(need), *shelves):
            if need in needs_that_fit(capacity) and (slots := shelves.get(capacity)):
                return slots.pop()
        return None

    def find_like(self, slot: Slot, most: int) -> list[Slot]:
        """Takes free slots of the same worker and size, `most` of them."""
        shelf = self._free[slot.owner].get(slot.capacity)
        if not shelf or most <= 0:
            return []
        found = shelf[-most:]
        del shelf[-most:]
        return found

    def make(self, owner: Owner, need: int) -> Slot | None:
        """Makes a slot, or gives None where the budget refuses. Raises `OSError`."""
        return self._make(owner, need)

    def overdraw(self, owner: Owner, need: int, scratch: int) -> Slot | None:
        """Makes a slot whatever the budget holds, unless another undelivered one has been overdrawn.

        It is charged `scratch` bytes more until it is delivered. Raises `OSError`.
        """
        return self._make(owner, need, alone=True, scratch=scratch)

    def drop_one(self, owner: Owner, need: int, *, fitting: bool) -> bool:
        """Gives up a free slot to make room for a new one of `owner`, and says whether there was one.

        It is one too small or too large for the need; if `fitting`, else any of another worker.
        """
        spare = None
        for slot in self._free_slots():
            if need not in needs_that_fit(slot.capacity):
                spare = slot
                break
            if fitting and slot.owner is not owner:
                spare = slot
        if spare is not None:
            self._give_up(spare)
        return spare is not None

    def discard(self, slot: Slot) -> None:
        """Gives up a slot that was found free."""
        slot.owner.forget(slot)
        self._destroy(slot)

    def lend(self, slots: Iterable[Slot], shape: list[int], dtype: str) -> list[Pixels]:
        """The pixels at each slot's begin, as arrays whose memory is lent until nothing looks at it any more."""
        import numpy as np

        axes, kind = tuple(shape), np.dtype(dtype)  # made ready once for all of them
        arrays: list[Pixels] = []
        for slot in slots:
            exporter = slot.exporter()
            lease = _Lease(exporter, self._watch)
            lease.slot = slot
            self._leases[slot] = lease
            arrays.append(np.ndarray(axes, kind, memoryview(exporter)))
            if slot.overdrawn:
                slot.deliver()
        return arrays

    def put_back(self, slot: Slot) -> None:
        """Takes a slot back: it is free, or given up when there is nobody left to use it."""
        if slot.overdrawn:
            slot.deliver()
        if self._closed or slot.owner not in self._free:
            self._destroy(slot)
        else:
            self._free[slot.owner].setdefault(slot.capacity, []).append(slot)

    @property
    def has_returned(self) -> bool:
        """Whether users have let something go that was not yet collected."""
        return bool(self._returned)

    def collect(self) -> None:
        """Takes back what users have let go. Once the arena is closed this may be called on any thread."""
        with contextlib.suppress(IndexError):  # empty, perhaps because another thread was faster
            while True:
                self.put_back(self._returned.popleft())

    def reclaim(self, amount: int) -> int:
        """Gives up free slots, the largest first, until `amount` bytes went back, and says how many did."""
        returned = 0
        if not self._choosing:
            self.collect()
            for slot in sorted(self._free_slots(), key=lambda slot: -slot.capacity):
                if returned >= amount:
                    break
                returned += slot.capacity
                self._give_up(slot)
        return returned

    def close(self) -> None:
        """Gives up every slot but those that are lent; each of these ends with its last view."""
        lent = set(self._leases)
        self._closed = True
        self._free.clear()
        for slot in self._slots - lent - set(self._returned):
            self._destroy(slot)
        self.collect()

    def statistics(self) -> ArenaStatistics:
        """Counts the slots as they are now."""
        slots = tuple(self._slots)
        total, free = sum(slot.capacity for slot in slots), sum(slot.capacity for slot in self._free_slots())
        return ArenaStatistics(len(slots), total, free)

    @property
    def free_bytes(self) -> int:
        """What the free slots hold."""
        shelves = (shelf for shelves in self._free.values() for shelf in shelves.items())
        return sum(capacity * len(slots) for capacity, slots in shelves)

    def _make(self, owner: Owner, need: int, *, alone: bool = False, scratch: int = 0) -> Slot | None:
        capacity = slot_capacity(need)
        # A budget that is short may turn to `reclaim` of those it lent to. While the arena itself asks, the answer is
        # none: which slots to drop for a slot is decided here.
        self._choosing = True
        try:
            grant = self._budget.take(capacity + scratch, alone=alone)
        finally:
            self._choosing = False
        if grant is None:
            return None
        self._made += 1
        try:
            slot = Slot(self._made, capacity, owner, grant, overdrawn=alone)
        except OSError:
            grant.release()
            raise
        self._slots.add(slot)
        owner.introduce(slot)
        return slot

    def _free_slots(self) -> Iterator[Slot]:
        for shelves in self._free.values():
            for slots in shelves.values():
                yield from slots

    def _came_back(self, lease: weakref.ref[ctypes.Array[ctypes.c_char]]) -> None:
        """Called in the destructor of an exporter: on any thread, at any instruction of this class itself."""
        assert isinstance(lease, _Lease)
        del self._leases[lease.slot]
        self._returned.append(lease.slot)
        if self._closed:
            self.collect()
        else:
            self._wake()

    def _give_up(self, slot: Slot) -> None:
        self._free[slot.owner][slot.capacity].remove(slot)
        slot.owner.forget(slot)
        self._destroy(slot)

    def _destroy(self, slot: Slot) -> None:
        self._slots.discard(slot)
        slot.destroy()
