"""The cache: asked on the loop, answered on the loop, in batches, and nothing is said to be there that is not."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop

from asyncfetch.cache import SMALL, Found, Published, Ref, files
from asyncfetch.cache.line import BATCH_BODIES
from asyncfetch.errors import FetcherClosed
from asyncfetch.settings import Digest

from .helpers import (
    HASHES,
    blobs,
    check_blobs,
    fill,
    keep_private,
    key,
    leftovers,
    look_up,
    opened,
    owners,
    publish,
    settled,
)

NOISE = random.Random(11).randbytes(SMALL + 4096)
SIZES = [0, 1, 86_000, SMALL, SMALL + 1]


@pytest.mark.parametrize("digest", ["blake3", "sha256"])
@pytest.mark.parametrize("size", SIZES)
async def test_what_is_published_is_found_again_and_after_closing(tmp_path: Path, size: int, digest: Digest) -> None:
    data = NOISE[:size]
    facts = {"etag": 'W/"x"', "last_modified": 12.5, "validated": 99.25}
    async with opened(tmp_path, digest) as cache:
        published = await publish(cache, data, key("a"), **facts)
        assert published == Published(published.path, f"{digest}:{HASHES[digest](data)}", size, stored=True)
        assert Path(published.path).read_bytes() == data
        expected = Found(Ref(size, 'W/"x"', published.digest, 99.25, 12.5), published.path)
        assert await look_up(cache, key("a"), key("b")) == [expected, None]
    async with opened(tmp_path, digest) as cache:
        assert await look_up(cache, key("a")) == [expected]
    check_blobs(tmp_path, [published.digest])


@pytest.mark.parametrize("size", SIZES)
async def test_identical_bytes_are_stored_once(tmp_path: Path, size: int) -> None:
    async with opened(tmp_path) as cache:
        first, second = [await publish(cache, NOISE[:size], key(name)) for name in ("a", "b")]
        inode = Path(first.path).stat().st_ino
        assert (first.stored, second.stored) == (True, False)
        assert second == first._replace(stored=False)
        assert Path(first.path).stat().st_ino == inode
        stats = await settled(cache)
        assert stats == (2, 2 * size, 1, size, 0, 0)
        assert not leftovers(tmp_path)
        assert all(await look_up(cache, key("a"), key("b")))


async def test_both_digests_live_in_one_directory(tmp_path: Path) -> None:
    async with opened(tmp_path, "blake3") as one, opened(tmp_path, "sha256") as other:
        first = await publish(one, b"bytes", key("a"))
        assert await look_up(other, key("a")) == [None]
        second = await publish(other, b"bytes", key("a"))
        for cache, published in ((one, first), (other, second)):
            (found,) = await look_up(cache, key("a"))
            assert found is not None
            assert (found.path, found.ref.digest) == (published.path, published.digest)
    check_blobs(tmp_path, [first.digest, second.digest])


@pytest.mark.parametrize("size", [86_000, SMALL + 1])
@pytest.mark.parametrize("damage", ["removed", "cut", "grown"])
async def test_blob_that_was_damaged_is_a_miss_and_is_replaced(tmp_path: Path, damage: str, size: int) -> None:
    data = NOISE[:size]
    async with opened(tmp_path) as cache:
        published = await publish(cache, data, key("a"))
        path = Path(published.path)
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(data[:-1] if damage == "cut" else data + b"x")
        with path.parent.joinpath(path.name).open("rb") if path.exists() else Path(os.devnull).open("rb") as reader:
            assert await look_up(cache, key("a")) == [None]
            again = await publish(cache, data, key("a"))
            assert again.stored
            (found,) = await look_up(cache, key("a"))
            assert found is not None
            check_blobs(tmp_path, [published.digest])
            assert reader.read() != data  # replaced by another file, not written over under its readers


async def test_object_that_changed_is_the_new_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"old", key("a"), etag="1", validated=1.0)
        await publish(cache, b"new!", key("a"), etag="2", validated=2.0)
        await publish(cache, b"version", key("a", "v1"), etag="0")
        found = await look_up(cache, key("a"), key("a", "v1"))
        assert [one and (one.ref.etag, one.ref.size) for one in found] == [("2", 4), ("0", 7)]


async def test_forgotten_object_is_not_found_from_that_moment(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"bytes", key("a"))
        cache.forget(key("a"))
        assert await look_up(cache, key("a")) == [None]
        await settled(cache)  # the change is made by now
        assert await look_up(cache, key("a")) == [None]
        assert Path(published.path).exists()
        assert not (await publish(cache, b"bytes", key("a"))).stored
        assert await look_up(cache, key("a")) != [None]


async def test_confirmed_object_is_as_young_as_its_confirmation(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await publish(cache, b"bytes", key("a"), etag="e", validated=1.0)
        (found,) = await look_up(cache, key("a"))
        assert found is not None
        cache.validate(key("a"), found.ref, 50.0)
        await settled(cache)
        (found,) = await look_up(cache, key("a"))
        assert found is not None
        assert found.ref.validated == 50.0


async def test_body_without_a_key_is_only_a_blob(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        assert (await publish(cache, b"bytes")).stored
        assert await settled(cache) == (0, 0, 1, 5, 0, 0)


@pytest.mark.parametrize("size", SIZES)
async def test_private_body_stays_out_of_the_cache_until_it_is_discarded(tmp_path: Path, size: int) -> None:
    async with opened(tmp_path) as cache:
        kept, other = [await keep_private(cache, NOISE[:size]) for _ in range(2)]
        assert kept.path != other.path
        assert Path(kept.path).read_bytes() == NOISE[:size]
        assert kept.digest == "blake3:" + HASHES["blake3"](NOISE[:size])
        assert await settled(cache) == (0, 0, 0, 0, 0, 0)
        cache.discard(kept.path)
        await settled(cache)
        assert [str(path) for path in leftovers(tmp_path)] == [other.path]
        assert cache.statistics().private == 2
    assert not Path(other.path).exists()
    cache.discard(other.path)


async def test_only_private_files_can_be_discarded(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, b"bytes", key("a"))
        for path in (published.path, str(tmp_path / "v1" / "index" / "CURRENT"), "/etc/passwd"):
            with pytest.raises(ValueError, match="not a private file"):
                cache.discard(path)


async def test_memory_comes_back_with_the_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        body = await fill(cache.sink(), NOISE[:86_000])
        assert cache.statistics().buffer_bytes > 86_000
        held: list[int] = []

        def done(answer: object) -> None:
            held.append(cache.statistics().buffer_bytes)
            finished.set()

        finished = asyncio.Event()
        cache.publish(body, key("a"), done)
        body.release()  # it is the cache's by now
        with pytest.raises(ValueError, match="handed over"):
            cache.publish(body, key("b"), done)
        assert held == []
        await finished.wait()
        assert held == [0]


async def test_answers_come_in_few_batches_and_all_of_them(tmp_path: Path) -> None:
    count = 10 * BATCH_BODIES
    async with opened(tmp_path) as cache:
        bodies = [await fill(cache.sink(), b"%d" % number) for number in range(count)]
        answers: list[object] = []
        finished = asyncio.Event()

        def done(answer: object) -> None:
            answers.append(answer)
            if len(answers) == count:
                finished.set()

        for number, body in enumerate(bodies):
            cache.publish(body, key(str(number)), done)
        assert answers == []
        assert cache.statistics().waiting == count
        await finished.wait()
        assert all(isinstance(answer, Published) for answer in answers)
        statistics = cache.statistics()
        assert statistics.batches <= count // BATCH_BODIES + 1
        assert (statistics.published, statistics.stored, statistics.waiting) == (count, count, 0)
        assert statistics.stored_bytes == sum(len(b"%d" % number) for number in range(count))
        assert statistics.busy_seconds > 0


async def test_look_ups_overtake_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, entered, gate = files.write, threading.Event(), threading.Event()

    def held_up(descriptor: int, data: memoryview) -> None:
        entered.set()
        gate.wait()
        write(descriptor, data)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write", held_up)
        order: list[str] = []
        finished = asyncio.Event()

        def done(name: str, answer: object) -> None:
            order.append(name)
            if len(order) == 2 * BATCH_BODIES + 1:
                finished.set()

        for number in range(2 * BATCH_BODIES):
            body = await fill(cache.sink(), b"%d" % number)
            cache.publish(body, None, lambda answer: done("body", answer))
        await asyncio.to_thread(entered.wait)
        cache.look_up([key("a")], lambda answer: done("look-up", answer))
        gate.set()
        await finished.wait()
        assert order.index("look-up") == BATCH_BODIES


async def test_callback_that_raises_harms_no_other(tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    def fail(answer: object) -> None:
        raise ArithmeticError("mine")

    async with opened(tmp_path) as cache:
        cache.look_up([key("a")], fail)
        assert await look_up(cache, key("a")) == [None]
        assert await look_up(cache, key("a")) == [None]
    assert [type(context["exception"]) for context in reported] == [ArithmeticError]


async def test_key_that_is_no_text_is_answered_with_its_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        with pytest.raises(UnicodeEncodeError):
            await look_up(cache, key("\udcff"))
        assert await look_up(cache, key("a")) == [None]


async def test_clear_removes_all_and_hurts_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path, "sha256") as other:
        mine = [await publish(one, b"%d" % number, key(str(number))) for number in range(5)]
        await publish(one, b"1", key("again"))
        theirs = await publish(other, NOISE, key("theirs"))
        private = await keep_private(other, b"private")
        with Path(theirs.path).open("rb") as reader:
            gone = await one.clear()
            assert gone == (7, 6 + len(NOISE), 6, 5 + len(NOISE), 0, 0)
            assert reader.read() == NOISE
        assert Path(private.path).exists()
        assert await look_up(other, key("theirs")) == [None]
        assert await look_up(one, key("1")) == [None]
        assert await settled(one) == await settled(other) == (0, 0, 0, 0, 0, 0)
        assert not Path(mine[0].path).exists()
        assert (await publish(other, NOISE, key("theirs"))).stored
        assert await look_up(other, key("theirs")) != [None]
    async with opened(tmp_path) as cache:
        assert await cache.clear() == (1, len(NOISE), 1, len(NOISE), 0, 0)
        assert len(list((tmp_path / "v1" / "index").glob("index-*.sqlite"))) == 1


async def test_closing_answers_all_that_was_handed_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        bodies = [await fill(cache.sink(), b"%d" % number) for number in range(100)]
        answers: list[object] = []
        for number, body in enumerate(bodies):
            cache.publish(body, key(str(number)), answers.append)
        cache.look_up([key("a")], answers.append)
        kept = await fill(cache.sink(), NOISE)
        await cache.aclose()
        assert len(answers) == 101
        assert not any(isinstance(answer, Exception) for answer in answers)
        kept.release()
        unpublished = (lambda: cache.publish(kept, None, print), lambda: cache.keep_private(kept, print))
        for use in (
            lambda: cache.look_up([key("a")], print),
            lambda: cache.forget(key("a")),
            lambda: cache.validate(key("a"), Ref(1, None, "blake3:00", 0.0), 1.0),
            cache.sink,
            *unpublished,
        ):
            with pytest.raises(FetcherClosed):
                use()
        with pytest.raises(FetcherClosed):
            await settled(cache)
        await cache.aclose()
    assert len(blobs(tmp_path)) == 100
    assert not owners(tmp_path)


async def test_closing_goes_on_when_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, gate = files.write, threading.Event()

    def held_up(descriptor: int, data: memoryview) -> None:
        gate.wait()
        write(descriptor, data)

    async with opened(tmp_path) as cache:
        monkeypatch.setattr(files, "write", held_up)
        body = await fill(cache.sink(), b"bytes")
        answers: list[object] = []
        cache.publish(body, key("a"), answers.append)
        closing_task = asyncio.create_task(cache.aclose())
        await asyncio.sleep(0)
        closing_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing_task
        assert answers == []
        gate.set()
        await cache.aclose()
        assert len(answers) == 1
    assert not owners(tmp_path)


async def test_nothing_stays_behind(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), len(files.names("/dev/fd"))
    async with opened(tmp_path) as cache:
        await publish(cache, NOISE, key("a"))
        await keep_private(cache, NOISE)
        abandoned = cache.sink()
        for _ in range(3):
            abandoned.advance(len(abandoned.get_buffer(-1)))
    assert threading.active_count() == threads + _threads_of_the_loop()
    assert len(files.names("/dev/fd")) == descriptors
    assert not owners(tmp_path)


def _threads_of_the_loop() -> int:
    """The test itself opens the cache on a thread of the loop's pool, which stays until the loop is closed."""
    return sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())


async def test_cancelled_question_is_answered_to_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        question = asyncio.create_task(settled(cache))
        await asyncio.sleep(0)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        assert await settled(cache) == (0, 0, 0, 0, 0, 0)


def test_on_uvloop_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as cache:
            published = await asyncio.gather(
                *(publish(cache, NOISE[number:], key(str(number))) for number in (0, 1, 4096, 5000, SMALL))
            )
            found = await look_up(cache, *(key(str(number)) for number in (0, 1, 4096, 5000, SMALL)))
            assert [one and one.path for one in found] == [one.path for one in published]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    check_blobs(tmp_path)


def test_importing_the_cache_is_light() -> None:
    program = "import sys, asyncfetch.cache; print(sorted({'numpy', 'cv2', 'botocore', 'aiohttp'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


async def test_a_check_that_was_noted_is_seen_by_the_next_look_up(tmp_path: Path) -> None:
    """Look-ups overtake changes of the index: an object just checked was checked once more."""
    async with opened(tmp_path) as cache:
        await publish(cache, b"bytes", key("a"), etag="e", validated=1.0)
        (found,) = await look_up(cache, key("a"))
        assert found is not None
        cache.validate(key("a"), found.ref, 2.0)
        (again,) = await look_up(cache, key("a"))
        assert again is not None
        assert again.ref.validated == 2.0
        cache.validate(key("a"), found.ref._replace(etag="another"), 3.0)
        (again,) = await look_up(cache, key("a"))
        assert again is not None
        assert again.ref.validated == 2.0


async def test_read_gives_the_bytes_in_one_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        published = await publish(cache, NOISE, key("a"), etag="e")

        async def read(name: str, may: bool = True) -> bytes | Exception | None:
            return await cache.read(key(name), lambda ref: may)

        assert await read("a") == NOISE
        assert await read("a", may=False) is None
        assert await read("unknown") is None
        Path(published.path).write_bytes(NOISE[:-1])
        assert await read("a") is None, "a blob of another size is not the object"
        Path(published.path).write_bytes(NOISE + b"!")
        assert await read("a") is None
        Path(published.path).unlink()
        assert await read("a") is None
        cache.forget(key("a"))
        assert await read("a") is None
