"""Slots: charged, lent, returned by the last view on whatever thread, given up."""

from __future__ import annotations

import array
import ctypes
import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.arena import Arena, slot_capacity
from asyncfetch.decode.shared import anonymous_file, map_file
from tests.decode.parts import PlainBudget, descriptors, shared_mappings

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode import Pixels
    from asyncfetch.decode.arena import Slot

MIB = 1 << 20


class Shelf:
    """An owner that remembers what it was told."""

    def __init__(self) -> None:
        self.introduced: list[int] = []
        self.forgotten: list[int] = []

    def introduce(self, slot: Slot) -> None:
        self.introduced.append(slot.number)

    def forget(self, slot: Slot) -> None:
        self.forgotten.append(slot.number)


class Setting:
    """An arena with two owners on a budget, and the count of its wakes."""

    def __init__(self, total: int = 64 * MIB) -> None:
        self.budget = PlainBudget(total)
        self.wakes = 0
        self.arena = Arena(self.budget, self._wake)
        self.one, self.two = Shelf(), Shelf()
        self.arena.admit(self.one)
        self.arena.admit(self.two)

    def make(self, need: int = MIB) -> Slot:
        slot = self.arena.make(self.one, need)
        assert slot is not None
        return slot

    def lend(self, shape: tuple[int, ...] = (64, 48, 3), dtype: str = "|u1") -> Pixels:
        [pixels] = self.arena.lend([self.make()], list(shape), dtype)
        return pixels

    @property
    def free(self) -> int:
        self.arena.collect()
        return self.arena.statistics().free_slot_bytes

    def _wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def setting() -> Setting:
    return Setting()


@given(st.integers(1, 1 << 32))
def test_a_size_class_holds_the_need_and_wastes_a_quarter_at_most(need: int) -> None:
    capacity = slot_capacity(need)
    assert need <= capacity <= max(need * 1.25, need + (16 << 10))
    assert capacity % (16 << 10) == 0
    assert slot_capacity(capacity) == capacity


def test_two_mappings_of_a_file_are_one_memory_and_keep_no_descriptor() -> None:
    before = descriptors()
    descriptor = anonymous_file(MIB)
    one, two = map_file(descriptor, MIB), map_file(descriptor, MIB)
    os.close(descriptor)
    one[MIB - 1] = 7
    assert two[MIB - 1] == 7
    assert descriptors() == before


def test_what_cannot_be_mapped_is_an_os_error() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="shared memory"):
        map_file(read, 4096)
    os.close(read)
    os.close(write)


def test_lent_pixels_are_writable_contiguous_and_of_the_shape_asked_for(setting: Setting) -> None:
    pixels = setting.lend((5, 7, 3), "<u2")
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint16
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    pixels[...] = 9


class ByInterface:
    """What a library does that knows only __array_interface__."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.__array_interface__ = pixels.__array_interface__


VIEWS: dict[str, Callable[[Any], Any]] = {  # Any: NumPy's stubs know of no buffers before Python 3.12
    "a crop": lambda pixels: pixels[2:9, 3:8],
    "a crop of a crop": lambda pixels: pixels[2:9][1:3, 1:],
    "another shape": lambda pixels: pixels.reshape(-1),
    "turned": lambda pixels: pixels.transpose(2, 0, 1),
    "another dtype": lambda pixels: pixels.view(np.int8),
    "one element's view": lambda pixels: pixels[0, 0, 0:1],
    "np.asarray": np.asarray,
    "np.frombuffer": lambda pixels: np.frombuffer(pixels, np.uint8),
    "a memoryview": lambda pixels: memoryview(pixels),
    "a slice of a memoryview": lambda pixels: memoryview(pixels)[3:5],
    "a ctypes array": lambda pixels: (ctypes.c_ubyte * pixels.nbytes).from_buffer(pixels),
    "dlpack": np.from_dlpack,
    "a DLPack capsule": lambda pixels: pixels.__dlpack__(),
    "__array_interface__": lambda pixels: np.asarray(ByInterface(pixels)),
    "an iterator": iter,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_slot_stays_lent_while_anything_looks_at_it(setting: Setting, view: Callable[[Pixels], Any]) -> None:
    pixels = setting.lend()
    pixels[...] = 200
    look = view(pixels)
    del pixels
    gc.collect()
    assert setting.free == 0
    assert setting.wakes == 0
    del look
    gc.collect()
    assert setting.free == slot_capacity(MIB)
    assert setting.wakes == 1


@pytest.mark.parametrize("copy", [np.copy, np.ndarray.tobytes, lambda pixels: array.array("B", pixels.ravel())])
def test_a_copy_does_not_keep_the_slot(setting: Setting, copy: Callable[[Pixels], Any]) -> None:
    pixels = setting.lend()
    kept = copy(pixels)
    del pixels
    assert kept is not None
    assert setting.free == slot_capacity(MIB)


def test_a_view_caught_in_a_cycle_comes_back_with_the_garbage_collection(setting: Setting) -> None:
    cycle: list[Any] = [setting.lend()]
    cycle.append(cycle)
    del cycle
    assert setting.free == 0
    gc.collect()
    assert setting.free == slot_capacity(MIB)


def test_a_slot_let_go_on_another_thread_comes_back(setting: Setting) -> None:
    box = [setting.lend()]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert setting.wakes == 1
    assert setting.free == slot_capacity(MIB)


def test_a_free_slot_is_found_again_by_its_owner_only(setting: Setting) -> None:
    slot = setting.make()
    setting.arena.put_back(slot)
    assert setting.arena.find(setting.two, MIB) is None
    assert setting.arena.find(setting.one, MIB + 1) is None
    assert setting.arena.find(setting.one, MIB // 4) is None
    assert setting.arena.find(setting.one, MIB - 1) is slot
    assert setting.arena.find(setting.one, MIB - 1) is None


def test_a_slot_is_charged_until_it_is_given_up(setting: Setting) -> None:
    slot = setting.make()
    setting.arena.put_back(slot)
    assert setting.budget.held == slot.capacity
    assert setting.arena.reclaim(1) == slot.capacity
    assert setting.budget.held == 0
    assert setting.one.forgotten == [slot.number]


def test_reclaiming_takes_no_more_slots_than_it_must_and_none_in_use(setting: Setting) -> None:
    for slot in [setting.make() for _ in range(4)]:
        setting.arena.put_back(slot)
    used = setting.arena.find(setting.one, MIB)
    assert setting.arena.reclaim(MIB + 1) == 2 * slot_capacity(MIB)
    assert setting.arena.reclaim(1 << 40) == slot_capacity(MIB)
    assert setting.arena.reclaim(1) == 0
    assert used is not None


def test_what_users_have_just_let_go_can_be_reclaimed_at_once(setting: Setting) -> None:
    setting.lend()
    assert setting.arena.reclaim(1) == slot_capacity(MIB)


def test_a_refused_slot_charges_nothing() -> None:
    setting = Setting(total=MIB)
    setting.make()
    assert setting.arena.make(setting.one, MIB) is None
    assert setting.budget.held == MIB
    assert setting.one.introduced == [1]


def test_a_budget_that_reclaims_while_the_arena_asks_gets_nothing_from_it() -> None:
    setting = Setting(total=MIB)
    setting.arena.put_back(setting.make())
    answers: list[int] = []

    class Reclaiming(PlainBudget):
        def take(self, amount: int, *, alone: bool = False) -> Any:
            answers.append(setting.arena.reclaim(amount))
            return None

    setting.arena._budget = Reclaiming()
    assert setting.arena.make(setting.one, MIB) is None
    assert answers == [0]
    assert setting.arena.reclaim(1) == MIB


@pytest.mark.parametrize("lent", [True, False])
def test_an_overdraft_is_over_when_its_pixels_are_lent_or_its_job_has_failed(lent: bool) -> None:
    setting = Setting(total=MIB // 2)
    slot = setting.arena.overdraw(setting.one, MIB, 3 * MIB)
    assert slot is not None
    assert setting.budget.lone is not None
    assert setting.budget.held == 4 * MIB
    assert setting.arena.overdraw(setting.two, MIB, 0) is None
    if lent:
        [pixels] = setting.arena.lend([slot], [4, 4], "|u1")
    else:
        setting.arena.put_back(slot)
    assert setting.budget.lone is None
    assert setting.budget.held == MIB
    if lent:
        del pixels
    assert setting.free == MIB


def test_room_is_made_of_what_does_not_help_and_only_at_need_of_what_helps_others(setting: Setting) -> None:
    small, fitting, large = setting.make(MIB // 8), setting.make(), setting.make(8 * MIB)
    for slot in (small, fitting, large):
        setting.arena.put_back(slot)
    drop = setting.arena.drop_one
    assert drop(setting.two, MIB, fitting=False)
    assert drop(setting.two, MIB, fitting=False)
    assert not drop(setting.two, MIB, fitting=False)
    assert setting.one.forgotten == [small.number, large.number]
    assert not drop(setting.one, MIB, fitting=True)
    assert drop(setting.two, MIB, fitting=True)
    assert setting.budget.held == 0


def test_a_dead_owners_slots_go_at_once_and_those_it_lent_when_they_come_back(setting: Setting) -> None:
    setting.arena.put_back(setting.make())
    working, lent = setting.make(), setting.lend()
    setting.arena.put_back(working)
    setting.arena.expel(setting.one)
    assert setting.arena.statistics().slots == 1
    lent[...] = 5
    del lent
    setting.arena.collect()
    assert setting.arena.statistics() == (0, 0, 0)
    assert setting.budget.held == 0


def test_after_closing_lent_slots_stay_valid_and_nothing_is_left_of_them_after_their_last_view(
    setting: Setting,
) -> None:
    mapped, opened = shared_mappings(), descriptors()
    crop = setting.lend()[10:20]
    setting.arena.put_back(setting.make())
    setting.make()
    setting.arena.close()
    crop[...] = 77
    assert (crop == 77).all()
    del crop
    assert setting.wakes == 0
    assert setting.budget.held == 0
    assert setting.arena.statistics() == (0, 0, 0)
    assert shared_mappings() == mapped
    assert descriptors() == opened


def test_a_view_outlives_the_arena_itself() -> None:
    setting = Setting()
    mapped = shared_mappings()
    pixels = setting.lend()
    setting.arena.close()
    del setting
    gc.collect()
    pixels[...] = 3
    assert int(pixels.sum()) == 3 * pixels.size
    del pixels
    assert shared_mappings() == mapped


def let_go(gate: threading.Barrier, box: list[Pixels]) -> None:
    gate.wait()
    box.clear()


def test_slots_that_many_threads_let_go_while_the_arena_closes_are_each_given_up_once() -> None:
    for _ in range(20):
        setting = Setting(total=1 << 30)
        boxes = [[setting.lend() for _ in range(16)] for _ in range(4)]
        gate = threading.Barrier(5)
        threads = [threading.Thread(target=let_go, args=(gate, box)) for box in boxes]
        for thread in threads:
            thread.start()
        gate.wait()
        setting.arena.close()
        for thread in threads:
            thread.join()
        assert setting.budget.grants == []
        assert setting.arena.statistics() == (0, 0, 0)
