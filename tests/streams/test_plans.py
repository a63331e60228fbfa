"""Plans through a fetcher: lazy, in their order, without a pause between epochs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from tests.objects import Bucket
from tests.streams.orders import Anew, slowly


@pytest.fixture
def paths(tmp_path: Path) -> list[tuple[Path, str]]:
    made = []
    for index in range(40):
        path = tmp_path / f"{index:02d}"
        path.write_text(str(index))
        made.append((path, f"label {index}"))
    return made


async def indices(stream: Any) -> list[int]:
    return [item.index async for item in stream]


@pytest.mark.parametrize("order", ["input", "completion"])
async def test_index_and_payload_stay_those_of_the_source(
    paths: list[tuple[Path, str]], cache_dir: Path, order: Literal["input", "completion"]
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        seen = [entry async for entry in fetcher.entries(paths, order=order).shuffle(5).epochs(2)]
    assert [(entry.path, entry.payload) for entry in seen] == [paths[entry.index] for entry in seen]
    assert sorted(entry.index for entry in seen) == sorted([*range(40), *range(40)])
    assert [entry.index for entry in seen[:40]] != sorted(entry.index for entry in seen[:40])


async def test_the_order_is_known_and_the_same_again(paths: list[tuple[Path, str]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        first = await indices(fetcher.entries(paths).shuffle(5, 1).take(10))
        assert first == await indices(fetcher.entries(paths).shuffle(5, 1).take(10))
        assert first != await indices(fetcher.entries(paths).shuffle(5, 2).take(10))
        shards = [await indices(fetcher.entries(paths).shuffle(5, 1).shard(rank, 3)) for rank in range(3)]
        assert sorted(index for shard in shards for index in shard) == list(range(40))
        assert shards[0][0] == first[0]
        assert shards[1][0] == first[1]


async def test_sources_with_an_index_are_read_by_number_and_no_further_than_they_are_needed(
    paths: list[tuple[Path, str]], cache_dir: Path
) -> None:
    asked = []

    class Manifest(Sequence[Any]):
        def __len__(self) -> int:
            return 10**12

        def __getitem__(self, index: Any) -> Any:
            asked.append(index)
            return paths[index % 40]

        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("it is read by number")

    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(Manifest(), look_ahead=20).shuffle(1).shard(3, 8).take(100)
        assert not asked, "chaining reads nothing"
        seen = [entry async for entry in stream]
    assert [entry.index for entry in seen] == asked
    assert [entry.payload for entry in seen] == [paths[index % 40][1] for index in asked]
    assert len(set(asked)) == 100


async def test_the_next_epoch_is_under_way_before_this_one_ends(empty_bucket: Bucket, cache_dir: Path) -> None:
    uris = [empty_bucket.put(f"{index}", b"body") for index in range(6)]
    async with Fetcher(cache_dir=cache_dir, revalidate="always") as fetcher:
        stream = fetcher.entries(uris, look_ahead=6).shuffle(1).epochs(2)
        for _ in range(4):
            await anext(stream)
        while fetcher.stats().objects < 6 + 3:  # when three of six were taken, three more were asked for
            await asyncio.sleep(0)
        assert len(await indices(stream)) == 8


@pytest.mark.parametrize("kind", [iter, Anew, slowly])
async def test_sources_that_only_come_are_shuffled_in_a_window(
    paths: list[tuple[Path, str]], cache_dir: Path, kind: Any
) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        whole = await indices(fetcher.entries(kind(paths)).shuffle(2, window=8))
        shards = [await indices(fetcher.entries(kind(paths)).shuffle(2, window=8).shard(n, 3)) for n in range(3)]
    assert sorted(whole) == list(range(40))
    assert whole != sorted(whole)
    assert shards == [whole[n::3] for n in range(3)]


async def test_an_async_source_that_begins_anew_has_epochs_and_each_pass_is_closed(
    paths: list[tuple[Path, str]], cache_dir: Path
) -> None:
    passes = []

    class Again:
        async def __aiter__(self) -> AsyncIterator[Any]:
            passes.append("begun")
            try:
                async for path in slowly(paths):
                    yield path
            finally:
                passes.append("closed")

    async with Fetcher(cache_dir=cache_dir) as fetcher:
        assert await indices(fetcher.entries(Again()).take(10).epochs(2)) == [*range(10), *range(10)]
        assert passes == ["begun", "closed"] * 2
        async with fetcher.entries(Again(), look_ahead=5).epochs() as endless:
            for _ in range(100):
                await anext(endless)
    assert passes[-1] == "closed"
    assert len(passes) == 2 * (2 + 3)


async def test_a_plan_is_made_before_the_first_item(paths: list[tuple[Path, str]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(paths)
        await anext(stream)
        for name, arguments in ("shuffle", [1]), ("shard", [0, 2]), ("take", [1]), ("epochs", []):
            with pytest.raises(UsageError, match="begun"):
                getattr(stream, name)(*arguments)
        assert len(await indices(stream)) == 39


async def test_a_stream_prints_its_plan(paths: list[tuple[Path, str]], cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(paths).shuffle(7).shard(0, 2, uneven="drop").epochs(3)
        assert str(stream).splitlines() == [
            "Stream over a list of 40",
            "shuffle(7, epoch=0)",
            'shard(0, 2, uneven="drop")',
            "epochs(3)",
        ]
        assert repr(fetcher.entries(iter(paths))) == "Stream over a list_iterator"


async def test_a_stream_that_never_began_reports_nothing_and_can_be_closed(cache_dir: Path) -> None:
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        stream = fetcher.entries(["/etc/hostname"])
        assert stream.report().objects == 0
        await stream.aclose()
        async with stream:
            assert await indices(stream) == []


async def test_what_a_manifest_raises_comes_in_its_place(paths: list[tuple[Path, str]], cache_dir: Path) -> None:
    class Short(list[Any]):
        def __len__(self) -> int:
            return 50

    seen = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        with pytest.raises(IndexError):
            async for entry in fetcher.entries(Short(paths)):
                seen.append(entry.index)
    assert seen == list(range(40))


async def test_one_slow_item_does_not_let_the_others_run_away(
    paths: list[tuple[Path, str]], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncfetch.streams.run._MOST_SPREAD", 30)
    held: list[Any] = []
    async with Fetcher(cache_dir=cache_dir) as fetcher:
        engine = fetcher._engine()
        request = engine.request
        monkeypatch.setattr(engine, "request", lambda slots: request(hold_first(slots)))

        def hold_first(slots: Any) -> Any:
            if not held:
                held.append(slots[0])
                return slots[1:]
            return slots

        async with fetcher.entries(paths, order="completion", look_ahead=10) as stream:
            seen = [(await anext(stream)).index for _ in range(29)]
            step = asyncio.ensure_future(anext(stream))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not step.done()
            request(held)
            seen.append((await step).index)
            seen += [entry.index async for entry in stream]
    assert sorted(seen) == list(range(40))
