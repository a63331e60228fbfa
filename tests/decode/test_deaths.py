"""Workers that are killed: the image at hand is named, the rest goes on, and what cannot start says why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from asyncfetch.decode import starting
from asyncfetch.errors import DecoderUnavailable, FetcherClosed, WorkerDied
from tests.decode.parts import (
    Outcome,
    PlainBudget,
    decode,
    descriptors,
    encode,
    environment,
    expected,
    has_ended,
    make_pool,
    memory_of,
    names_left,
    photograph,
    photographs,
    pids,
    shared_mappings,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.decode import DecodePool
    from tests.decode.parts import OpenPool


@pytest.fixture
def pool(open_pool: OpenPool) -> DecodePool:
    return open_pool(1)


def signal_worker(pool: DecodePool, number: signal.Signals) -> None:
    [pid] = pids(pool)
    os.kill(pid, number)


async def stuck_at(pool: DecodePool, outcome: Outcome) -> int:
    """Waits until a worker is at this image, and gives its pid."""
    found: list[int] = []

    def look() -> bool:
        found.extend(worker.pid for worker in pool._workers if worker.current() == outcome.job.number)
        return bool(found)

    await until(look)
    return found[0]


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
async def test_the_image_that_killed_a_worker_is_named_and_all_others_are_decoded(
    pool: DecodePool, tmp_path: Path, endless: Path, number: signal.Signals, name: str
) -> None:
    paths = photographs(tmp_path, 20)
    outcomes = [Outcome(pool, path) for path in [*paths[:7], endless, *paths[7:]]]
    culprit = outcomes.pop(7)
    pid = await stuck_at(pool, culprit)
    os.kill(pid, number)
    error = await culprit.error()
    assert isinstance(error, WorkerDied)
    assert str(error).startswith(f"s3://bucket/endless.jpg: the decode worker that was at it was killed by {name}")
    for outcome, path in zip(outcomes, paths, strict=True):
        np.testing.assert_array_equal(await outcome.get(), expected(path))
    assert {outcome.calls for outcome in outcomes} == {1}
    assert pool.statistics().died == 1
    assert pid not in pids(pool)


async def test_what_the_worker_wrote_to_stderr_is_quoted(pool: DecodePool, tmp_path: Path, endless: Path) -> None:
    (tmp_path / "cut.png").write_bytes(encode(".png", photograph())[:5000])
    await Outcome(pool, tmp_path / "cut.png").error()
    culprit = Outcome(pool, endless)
    os.kill(await stuck_at(pool, culprit), signal.SIGABRT)
    message = str(await culprit.error())
    assert "was killed by SIGABRT; its last words were: " in message
    assert "PNG input buffer is incomplete" in message
    assert "\n" not in message


async def test_a_worker_killed_between_images_is_nobodys_fault(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    for _ in range(5):
        assert (await decode(pool, path)).shape == (240, 320, 3)
        [worker] = pool._workers
        assert worker.current() == 0
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: not pids(pool))
    assert pool.statistics().died == 5
    assert pool.statistics().failed == 0


async def test_images_that_a_dead_worker_lent_stay_valid(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)
    pixels = await decode(pool, path)
    signal_worker(pool, signal.SIGKILL)
    await until(lambda: not pids(pool))
    np.testing.assert_array_equal(pixels, expected(path))
    del pixels
    await until(lambda: pool.statistics().slots == 0)


async def test_every_image_that_kills_fails_once_and_the_pool_goes_on(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    budget = PlainBudget()
    pool = open_pool(2, budget)
    [good] = photographs(tmp_path, 1)
    for _ in range(5):
        culprit = Outcome(pool, endless)
        os.kill(await stuck_at(pool, culprit), signal.SIGKILL)
        assert isinstance(await culprit.error(), WorkerDied)
    assert (await decode(pool, good)).shape == (240, 320, 3)
    await pool.aclose()
    await until(lambda: budget.grants == [])


async def test_a_cancelled_image_that_kills_its_worker_tells_nobody(
    pool: DecodePool, tmp_path: Path, endless: Path
) -> None:
    [good] = photographs(tmp_path, 1)
    culprit = Outcome(pool, endless)
    pid = await stuck_at(pool, culprit)
    pool.cancel(culprit.job)
    waiting = Outcome(pool, good)
    os.kill(pid, signal.SIGKILL)
    assert (await waiting.get()).shape == (240, 320, 3)
    assert culprit.calls == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
async def test_what_is_sent_to_all_of_a_group_is_not_the_workers_business(
    pool: DecodePool, tmp_path: Path, number: signal.Signals
) -> None:
    [path] = photographs(tmp_path, 1)
    first = Outcome(pool, path)
    await until(lambda: bool(pids(pool)))
    signal_worker(pool, number)  # while it starts
    await first.get()
    signal_worker(pool, number)
    await decode(pool, path)
    assert pool.statistics().died == 0


async def test_what_libraries_write_to_stderr_stays_bounded(pool: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "cut.tiff").write_bytes(encode(".tiff", photograph(size=(64, 48)))[:2000])
    for _ in range(6):
        for outcome in [Outcome(pool, tmp_path / "cut.tiff") for _ in range(100)]:
            await outcome.error()
    assert os.fstat(pool._workers[0]._stderr).st_size < 80 << 10


# Workers that do not start


def broken_cv2(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has workers find another cv2, which counts its imports in the file that is returned."""
    starts = folder / "starts"
    starts.touch()
    place = folder / "path"
    place.mkdir()
    (place / "cv2.py").write_text(
        f"import os, sys\nwith open('{starts}', 'a') as file: file.write('x')\n{textwrap.dedent(body)}"
    )
    monkeypatch.syspath_prepend(place)
    return starts


FAILS_AT_FIRST = """
if os.path.getsize('{starts}') < {good}:
    os._exit(7)
sys.path.remove(os.path.dirname(__file__))
del sys.modules["cv2"]
import cv2
"""


async def test_workers_that_cannot_start_fail_all_jobs_after_three_tries_and_quote_why(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = broken_cv2(tmp_path, "raise ImportError('libGL.so.1: cannot open shared object file')", monkeypatch)
    paths = photographs(tmp_path, 5)
    for outcome in [Outcome(pool, path) for path in paths]:
        error = await outcome.error()
        assert isinstance(error, DecoderUnavailable)
        assert "ended with exit code 1; its last words were: " in str(error)
        assert "ImportError: libGL.so.1: cannot open shared object file" in str(error)
        assert "\n" not in str(error)
    assert isinstance(await Outcome(pool, paths[0]).error(), DecoderUnavailable)
    assert starts.read_text() == "xxx"


async def test_what_kept_workers_from_starting_may_be_over(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = broken_cv2(tmp_path, FAILS_AT_FIRST.format(starts=tmp_path / "starts", good=4), monkeypatch)
    [path] = photographs(tmp_path, 1)
    assert isinstance(await Outcome(pool, path).error(), DecoderUnavailable)
    assert isinstance(await Outcome(pool, path).error(), DecoderUnavailable)
    assert starts.read_text() == "xxx", "not tried again at once"
    monkeypatch.setattr("asyncfetch.decode.crew._RETRY_SECONDS", -1.0)
    assert (await decode(pool, path)).shape == (240, 320, 3)
    assert starts.read_text() == "xxxx"


async def test_a_worker_that_fails_to_start_at_first_is_replaced(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = broken_cv2(tmp_path, FAILS_AT_FIRST.format(starts=tmp_path / "starts", good=3), monkeypatch)
    [path] = photographs(tmp_path, 1)
    assert (await decode(pool, path)).shape == (240, 320, 3)
    assert starts.read_text() == "xxx"
    assert pool.statistics().died == 2


HANGS_WHILE = """
if os.path.exists('{hanging}'):
    print('waiting for the file server', file=sys.stderr, flush=True)
    os.read(os.pipe()[0], 1)
sys.path.remove(os.path.dirname(__file__))
del sys.modules["cv2"]
import cv2
"""


async def test_workers_that_hang_while_they_start_are_ended_and_named(
    open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging"
    hanging.touch()
    starts = broken_cv2(tmp_path, HANGS_WHILE.format(hanging=hanging), monkeypatch)
    monkeypatch.setattr("asyncfetch.decode.pool._LOOK_SECONDS", 0.01)
    pool, paths = open_pool(2), photographs(tmp_path, 2)
    outcomes = [Outcome(pool, path) for path in paths]
    await until(lambda: [os.fstat(worker._stderr).st_size > 0 for worker in pool._workers] == [True, True])
    monkeypatch.setattr("asyncfetch.decode.pool._START_SECONDS", 0.05)
    for outcome in outcomes:
        error = await outcome.error()
        assert isinstance(error, DecoderUnavailable)
        assert "the last one was killed because it had not started after 0.05 seconds; its last words were: " in str(
            error
        )
        assert "waiting for the file server" in str(error)
    assert starts.read_text() == "xx", "nobody waits for a third one"
    assert pool.statistics().workers == 0
    hanging.unlink()
    monkeypatch.setattr("asyncfetch.decode.pool._START_SECONDS", 60.0)
    monkeypatch.setattr("asyncfetch.decode.crew._RETRY_SECONDS", -1.0)
    assert (await decode(pool, paths[0])).shape == (240, 320, 3)


async def test_one_worker_that_hangs_while_it_starts_keeps_the_others_from_nothing(
    open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging"
    broken_cv2(tmp_path, HANGS_WHILE.format(hanging=hanging), monkeypatch)
    monkeypatch.setattr("asyncfetch.decode.pool._LOOK_SECONDS", 0.01)
    pool, paths = open_pool(2), photographs(tmp_path, 8)
    await decode(pool, paths[0])
    hanging.touch()
    for outcome in [Outcome(pool, path) for path in paths]:
        await outcome.get()
    [_, hung] = pids(pool)
    assert not pool._workers[1].ready
    monkeypatch.setattr("asyncfetch.decode.pool._START_SECONDS", 0.05)
    await until(lambda: hung not in pids(pool))
    assert (await decode(pool, paths[0])).shape == (240, 320, 3)
    assert pool.statistics().failed == 0


@pytest.mark.parametrize("executable", ["", "/nothing/here"])
async def test_without_an_interpreter_the_answer_is_decoder_unavailable(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    error = await Outcome(pool, tmp_path / "a.jpg").error()
    assert isinstance(error, DecoderUnavailable)
    assert "could not be started" in str(error)


# Closing, and what is left


async def test_closing_with_work_under_way_ends_every_job_and_leaves_nothing(
    open_pool: OpenPool, tmp_path: Path, endless: Path
) -> None:
    mapped, opened = shared_mappings(), descriptors()
    budget = PlainBudget()
    pool = open_pool(2, budget)
    paths = photographs(tmp_path, 30)
    kept, _ = await asyncio.gather(decode(pool, paths[0]), decode(pool, paths[1]))
    await until(lambda: all(worker.ready for worker in pool._workers))
    outcomes = [Outcome(pool, path) for path in [endless, endless, *paths]]
    await stuck_at(pool, outcomes[0])
    await stuck_at(pool, outcomes[1])
    children = pids(pool)
    open_jobs = [outcome for outcome in outcomes if not outcome.came]
    await pool.aclose()
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert len(open_jobs) > 2
    for outcome in open_jobs:
        error = await outcome.error()
        assert isinstance(error, FetcherClosed)
        assert outcome.job.uri in str(error)
    assert {outcome.calls for outcome in outcomes} == {1}
    del outcome, outcomes, open_jobs, _
    np.testing.assert_array_equal(kept, expected(paths[0]))
    assert len(budget.grants) == 1
    del kept
    await until(lambda: budget.grants == [])
    assert (shared_mappings(), descriptors()) == (mapped, opened)


async def test_closing_while_workers_start_leaves_nothing(open_pool: OpenPool, tmp_path: Path) -> None:
    mapped, opened = shared_mappings(), descriptors()
    pool = open_pool(3)
    outcomes = [Outcome(pool, path) for path in photographs(tmp_path, 5)]
    await until(lambda: len(pids(pool)) >= 2)
    children = pids(pool)
    await pool.aclose()
    assert isinstance(await outcomes[0].error(), FetcherClosed)
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert (shared_mappings(), descriptors()) == (mapped, opened)


async def test_closing_just_after_a_worker_died_leaves_nothing(pool: DecodePool, tmp_path: Path, endless: Path) -> None:
    mapped, opened = shared_mappings(), descriptors()
    culprit = Outcome(pool, endless)
    os.kill(await stuck_at(pool, culprit), signal.SIGKILL)
    await until(lambda: not pool._workers or not pool._workers[0].ready)
    await pool.aclose()
    assert isinstance(await culprit.error(), WorkerDied | FetcherClosed)
    assert (shared_mappings(), descriptors()) == (mapped, opened)


async def test_a_cancelled_close_has_closed(pool: DecodePool, tmp_path: Path, endless: Path) -> None:
    mapped, opened = shared_mappings(), descriptors()
    large = tmp_path / "large.jpg"  # of which so much memory stays with the worker that its end takes a while
    large.write_bytes(encode(".jpg", photograph(size=(6000, 4000))))
    await decode(pool, large)
    culprit = Outcome(pool, endless)
    pid = await stuck_at(pool, culprit)
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    assert isinstance(await culprit.error(), FetcherClosed)
    assert not psutil.pid_exists(pid)
    assert (shared_mappings(), descriptors()) == (mapped, opened)


def test_images_outlive_the_pool_and_its_loop(tmp_path: Path) -> None:
    mapped, opened = shared_mappings(), descriptors()
    paths = photographs(tmp_path, 2)
    pools: list[DecodePool] = []

    async def main() -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        pools.append(make_pool(1))
        images = [await decode(pools[0], path) for path in paths]
        await pools[0].aclose()
        return images

    images = asyncio.run(main())
    for pixels, path in zip(images, paths, strict=True):
        np.testing.assert_array_equal(pixels, expected(path))
    pixels = images.pop()
    images.clear()
    pixels = pixels[3:4]
    del pixels
    assert pools[0].statistics().slots == 0
    assert (shared_mappings(), descriptors()) == (mapped, opened)


@pytest.mark.parametrize("work", ["idle", "reading a file that never ends"])
async def test_a_parent_that_is_killed_leaves_no_worker(tmp_path: Path, endless: Path, work: str) -> None:
    [good] = photographs(tmp_path, 1)
    script = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from tests.decode.parts import Outcome, decode, make_pool, pids, until
        async def main():
            pool = make_pool(1)
            await decode(pool, Path({str(good)!r}))
            if {work != "idle"}:
                outcome = Outcome(pool, Path({str(endless)!r}))
                await until(lambda: pool._workers[0].current() == outcome.job.number)
            print(*pids(pool), flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment())
    with parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    await until(lambda: has_ended(worker))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /dev/shm, nor does a process say its memory")
@pytest.mark.parametrize("killed", ["worker", "parent"])
async def test_no_name_of_shared_memory_is_left_by_who_is_killed(tmp_path: Path, killed: str) -> None:
    [good] = photographs(tmp_path, 1)
    script = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from tests.decode.parts import decode, make_pool, pids, until
        async def main():
            pool = make_pool(1)
            kept = await decode(pool, Path({str(good)!r}))
            print(*pids(pool), flush=True)
            await until(lambda: not pids(pool))
            print("gone", flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment())
    with parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        memory = memory_of(parent.pid) | memory_of(worker.pid)
        if killed == "worker":
            worker.kill()
            parent.stdout.readline()  # once the pool has seen it
        left = names_left(memory)
        parent.kill()
    await until(lambda: has_ended(worker))
    assert left + names_left(memory) == []


MAD = """
import json, socket, struct
pool = socket.socket(fileno=int(channel))
def say(answers):
    body = json.dumps(answers).encode()
    pool.sendall(struct.pack("<I", len(body)) + body)
say([])
while data := socket.recv_fds(pool, 1 << 16, 64)[0]:
    for *_, groups in Unpacker().feed(data):
        for number, *_ in groups[0][5] if groups else []:
            say({answers})
"""


@pytest.mark.parametrize(
    "answers",
    [
        '[[number, 1, 0.1, "pixels", [[8], "|O", 0]]]',  # an array of addresses
        '[[number, 1, 0.1, "pixels", [[1 << 40], "|u1", 0]]]',
        '[[number, 1, 0.1, "pixels", [[8], "|u1", "much"]]]',
        '[[number, 1, 0.1, "pixels", None]]',
        '[[number, 2, 0.1, "pixels", [[8], "|u1", 0]]]',
        '[[number, 0, 0.1, "pixels", [[8], "|u1", 0]]]',
        '[[number + 1, 1, 0.1, "empty", ""]]',
        '[["number", 1, 0.1, "empty", ""]]',
        '[[number, 1, "long", "empty", ""]]',
        '[[number, 1, 0.1, "empty", "", []]]',
        '[[number, 1, 0.1, "empty", "", ["large"]]]',
        '[[number, 1, 0.1, "empty", "", [1 << 63]]]',
        "[[number]]",
        "[7]",
    ],
)
async def test_a_worker_whose_answer_makes_no_sense_is_ended_and_its_image_named(
    open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    [path] = photographs(tmp_path, 1)
    pool = open_pool(1)
    sane = starting._BOOTSTRAP
    mad = sane.partition("from asyncfetch.decode.forms")[0] + "from asyncfetch.decode.wire import Unpacker\n"
    monkeypatch.setattr(starting, "_BOOTSTRAP", mad + MAD.format(answers=answers))
    error = await Outcome(pool, path).error()
    assert isinstance(error, WorkerDied)
    assert path.name in str(error)
    assert "gave an answer that makes no sense" in str(error)
    monkeypatch.setattr(starting, "_BOOTSTRAP", sane)
    np.testing.assert_array_equal(await decode(pool, path), expected(path))
    assert pool.statistics().died == 1
