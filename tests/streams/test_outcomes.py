"""What becomes of failures: raised, skipped, yielded, replaced, limited, and written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch import Entry, Failure, FailureLimit, Fetcher, Substitute
from asyncfetch.errors import ObjectNotFound, TooManyFailures, UsageError
from asyncfetch.ledger import read_ledger


def sources(tmp_path: Path, good: int, bad: int) -> list[tuple[str, int]]:
    """Files, and then files that are not there."""
    made = []
    for index in range(good + bad):
        path = tmp_path / f"{index:04d}"
        if index < good:
            path.write_text("here")
        made.append((str(path), index))
    return made


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_a_substitute_takes_the_place_of_the_item(
    tmp_path: Path, cache_dir: Path, order: Literal["input", "completion"]
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(
            sources(tmp_path, 3, 2), order=order, on_error=Substitute(lambda failure: -failure.payload)
        )
        seen = [item.payload if isinstance(item, Entry) else item async for item in stream]
        assert sorted(seen) == [-4, -3, 0, 1, 2]
        if order == "input":
            assert seen == [0, 1, 2, -3, -4]
        assert stream.report().failed == 2


async def test_a_substitute_may_leave_the_item_out_and_may_raise(tmp_path: Path, cache_dir: Path) -> None:
    def grudging(failure: Failure) -> int | None:
        if failure.index == 4:
            raise LookupError("no substitute for the fifth")
        return None

    seen = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(sources(tmp_path, 3, 5), on_error=Substitute(grudging))
        with pytest.raises(LookupError, match="the fifth"):
            async for item in stream:
                seen.append(item)
        assert [item async for item in stream] == []
    assert len(seen) == 3


async def test_a_limit_by_count_raises_with_the_last_error(tmp_path: Path, cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        names = sources(tmp_path, 5, 3)
        assert len([item async for item in fetcher.entries(names, on_error=FailureLimit(count=3))]) == 5
        with pytest.raises(TooManyFailures, match="3 of 8 items failed, the last with ObjectNotFound") as raised:
            _ = [item async for item in fetcher.entries(names, on_error=FailureLimit(count=2))]
    assert isinstance(raised.value.__cause__, ObjectNotFound)
    assert (raised.value.failed, raised.value.items) == (3, 8)


async def test_a_limit_by_rate_is_looked_at_from_the_hundredth_item_on_and_at_the_end(
    tmp_path: Path, cache_dir: Path
) -> None:
    names = sources(tmp_path, 150, 50)
    early = names[-2:] + names[:-2]
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        assert len([item async for item in fetcher.entries(early[:102], on_error=FailureLimit(rate=0.02))]) == 100
        with pytest.raises(TooManyFailures, match="21 of 171 items"):
            _ = [item async for item in fetcher.entries(names, on_error=FailureLimit(rate=0.12))]
        seen = []
        with pytest.raises(TooManyFailures, match="2 of 12 items"):
            async for item in fetcher.entries(early[:12], on_error=FailureLimit(rate=0.1)):
                seen.append(item)
        assert len(seen) == 10, "a short stream is judged at its end"


@given(failed=st.integers(0, 300), good=st.integers(0, 300), rate=st.floats(0, 1), count=st.integers(0, 300))
def test_a_limit_is_exceeded_when_either_is(failed: int, good: int, rate: float, count: int) -> None:
    def exceeded(**limits: Any) -> bool:
        return FailureLimit(**limits).exceeded(failed, failed + good, ended=True)

    assert exceeded(rate=rate, count=count) == (exceeded(rate=rate) or exceeded(count=count))
    assert exceeded(count=count) == (failed > count)
    assert not exceeded(rate=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FailureLimit(),
        lambda: FailureLimit(rate=1.5),
        lambda: FailureLimit(rate=True),
        lambda: FailureLimit(count=-1),
        lambda: FailureLimit(count=1.0),  # type: ignore[arg-type]
        lambda: Substitute("blank"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


@pytest.mark.parametrize(
    "on_error",
    ["skip", "yield", Substitute(lambda failure: failure), FailureLimit(count=9)],
    ids=["skip", "yield", "substitute", "limit"],
)
async def test_every_failure_is_in_the_ledger_which_runs_again(tmp_path: Path, cache_dir: Path, on_error: Any) -> None:
    ledger = tmp_path / "failures.jsonl"
    names = sources(tmp_path, 2, 3)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        async for _ in fetcher.entries(names, on_error=on_error, failures=ledger):
            pass
        assert [json.loads(line)["index"] for line in ledger.read_bytes().splitlines()] == [2, 3, 4]
        for name, _ in names:
            Path(name).touch()
        again = [entry async for entry in fetcher.entries(read_ledger(ledger), failures=ledger)]
    assert [(entry.uri, entry.payload) for entry in again] == names[2:]
    assert len(ledger.read_bytes().splitlines()) == 3


async def test_a_failure_is_in_the_ledger_before_it_is_raised_and_a_prefetch_keeps_one_too(
    tmp_path: Path, cache_dir: Path
) -> None:
    ledger = tmp_path / "failures.jsonl"
    names = sources(tmp_path, 1, 3)
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(ObjectNotFound):
            async for _ in fetcher.entries(names, failures=ledger):
                assert not ledger.read_bytes()
        assert read_ledger(ledger) == [names[1]]
        report = await fetcher.prefetch(names, failures=ledger)
        assert report.failed == 3
    assert sorted(read_ledger(ledger)) == names[1:]  # type: ignore[type-var]


async def test_a_ledger_that_cannot_be_written_says_so_before_anything_is_fetched(
    tmp_path: Path, cache_dir: Path
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(sources(tmp_path, 2, 0), failures=tmp_path / "no" / "such" / "directory")
        with pytest.raises(FileNotFoundError):
            await anext(stream)
        assert fetcher.stats().objects == 0
