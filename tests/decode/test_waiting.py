"""The queue of waiting jobs against a plain list that is sorted each time."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.jobs import DecodeJob, DecodeOptions
from asyncfetch.decode.waiting import WaitingJobs

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
