"""The queue of waiting jobs against a plain list that is sorted each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode import Row, Slab
from asyncfetch.decode.forms import Limits
from asyncfetch.decode.jobs import DecodeJob, DecodeOptions
from asyncfetch.decode.manners import Manners
from asyncfetch.decode.waiting import WaitingGroups, WaitingJobs

if TYPE_CHECKING:
    from asyncfetch.decode.arena import Slot
    from asyncfetch.decode.forms import Pixels

Step = tuple[Literal["add", "take", "cancel", "urge", "return"], int]
steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "take", "cancel", "urge", "return"]), st.integers(0, 7)), max_size=120
)


def new_job(number: int, order: int, *, urgent: bool = False) -> DecodeJob:
    job = DecodeJob(uri=str(number), path="", options=DecodeOptions(), order=order, done=lambda _: None, urgent=urgent)
    job.number = number
    return job


def turn(job: DecodeJob) -> tuple[bool, int, int]:
    return not job.urgent, job.order, job.number


@given(steps)
def test_jobs_come_urgent_first_then_by_order_whatever_is_cancelled_urged_or_put_back(steps: list[Step]) -> None:
    queue, model, taken = WaitingJobs[DecodeJob](), list[DecodeJob](), list[DecodeJob]()
    for number, (step, value) in enumerate(steps, start=1):
        chosen = model[value % len(model)] if model else None
        if step == "add":
            model.append(new_job(number, value, urgent=number % 5 == 0))
            queue.add(model[-1])
        elif step == "return" and taken:
            model.append(taken.pop())
            queue.add(model[-1])
        elif step == "take" and model:
            first = queue.first()
            assert first is min(model, key=turn)
            queue.remove(first)
            model.remove(first)
            taken.append(first)
        elif step == "cancel" and chosen is not None:
            queue.remove(chosen)
            model.remove(chosen)
        elif step == "urge" and chosen is not None:
            queue.urge(chosen)
        assert len(queue) == len(model)
        assert queue.first() is min(model, key=turn, default=None)
    assert queue.clear() == sorted(model, key=turn)
    assert queue.first() is None


def test_cancelled_jobs_leave_no_memory_behind_while_the_first_one_waits() -> None:
    queue = WaitingJobs[DecodeJob]()
    queue.add(new_job(1, 0))
    for number in range(2, 5000):
        job = new_job(number, number)
        queue.add(job)
        queue.remove(job)
    assert len(queue._places) < 100


class Kind(NamedTuple):
    """What a group has to have in common, and what may keep a job out of one."""

    order: int
    slab: int | None
    gray: bool
    scratch: int
    need: int
    urgent: bool
    left: bool  # given up before


kinds = st.builds(
    Kind,
    st.integers(0, 9),
    st.sampled_from([0, 0, 1, None, None]),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0, 0, 1, 2, 3]),
    *[st.booleans()] * 2,
)


@given(st.lists(kinds, max_size=20), st.integers(1, 5), st.booleans())
def test_groups_are_runs_of_alike_jobs_and_nothing_is_lost(kinds: list[Kind], most: int, checked: bool) -> None:
    slabs = [Slab(cast("Slot", None), cast("Pixels", None), 20, 8) for _ in range(2)]
    manners = Manners(Limits(1 << 28, 1 << 32))
    options = {gray: DecodeOptions(color="gray" if gray else "rgb") for gray in (False, True)}
    queue, model = WaitingGroups(), list[tuple[DecodeJob, Kind]]()
    for number, kind in enumerate(kinds):
        job = new_job(number, kind.order, urgent=kind.urgent)
        job.row = None if kind.slab is None else Row(slabs[kind.slab], number)
        job.manner, job.scratch, job.need = manners.of(options[kind.gray]), kind.scratch, kind.need
        queue.add(job)
        if kind.left:
            queue.remove(job)
        else:
            model.append((job, kind))
    model.sort(key=lambda item: turn(item[0]))
    while model:
        (job, first), number = model[0], 1
        needs = range(first.need, first.need + 2) if first.need else range(1)
        assert queue.first() is job
        while number < min(len(model), most):
            job, kind = model[number]
            alike = (kind.slab, kind.gray) == (first.slab, first.gray)
            alike = alike and (kind.slab is not None or kind.need in needs)
            if not alike or kind.scratch > 1 or (checked and job.number % 3 == 0):
                break
            number += 1
        may_go = (lambda job: job.number % 3 != 0) if checked else None
        assert queue.take_group(model[0][0], most, needs, 1, may_go) == [job for job, _ in model[:number]]
        del model[:number]
        assert len(queue) == len(model)
    assert queue.first() is None
