"""The loop of programs without one: where it runs, how a wait ends early, and what is left."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from asyncfetch.blocking.bridge import bridge
from asyncfetch.errors import UsageError
from tests.blocking.scripts import program

if TYPE_CHECKING:
    from pathlib import Path


async def where() -> tuple[int, int]:
    return threading.get_ident(), id(asyncio.get_running_loop())


def test_all_threads_share_one_loop_on_a_thread_of_its_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: bridge().run(where), range(32)))
    assert seen == {bridge().run(where)}
    assert threading.get_ident() not in {thread for thread, _ in seen}


async def test_it_works_from_inside_a_running_loop() -> None:
    thread, loop = bridge().run(where)
    assert thread != threading.get_ident()
    assert loop != id(asyncio.get_running_loop())


def test_what_a_coroutine_raises_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        bridge().run(fail)


def test_a_wait_on_its_own_loop_is_refused_before_it_waits_for_ever() -> None:
    async def nested() -> None:
        bridge().run(where)

    with pytest.raises(UsageError, match="its own event loop"):
        bridge().run(nested)


INTERRUPTED = """
import asyncio, signal, threading
from asyncfetch.blocking.bridge import bridge

said = []

async def work():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as the terminal's comes
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)  # cleaning up takes its turns
        said.append("cancelled")
        raise

async def more():
    return "goes on"

try:
    bridge().run(work)
except KeyboardInterrupt:
    print(*said)
print(bridge().run(more))
"""


def test_an_interrupt_cancels_the_work_and_waits_for_its_end(tmp_path: Path) -> None:
    assert program(INTERRUPTED, tmp_path) == ["cancelled", "goes on"]


FORKED = """
import os, threading, warnings
from asyncfetch.blocking.bridge import bridge
from asyncfetch.errors import ForeignUse

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

async def pid():
    return os.getpid()

before = bridge()
assert before.run(pid) == os.getpid()
child = os.fork()
if not child:
    try:
        before.run(pid)
    except ForeignUse as error:
        print("refused", flush=True)
    print(bridge().run(pid) == os.getpid(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(before is bridge(), before.run(pid) == os.getpid())
"""


def test_a_forked_process_gets_a_loop_of_its_own(tmp_path: Path) -> None:
    assert program(FORKED, tmp_path) == ["refused", "True", "True True"]


ENDING = """
import asyncio, threading
from asyncfetch.blocking.bridge import bridge
from asyncfetch.errors import FetcherClosed

here = bridge()

async def close():
    await asyncio.to_thread(print, "closed", flush=True)

async def keep():
    here.keep(here, close)

begun = threading.Event()

async def work():
    begun.set()
    await asyncio.Event().wait()

def wait():
    for _ in range(2):
        try:
            here.run(work)
        except FetcherClosed:
            print("told", flush=True)

here.run(keep)
threading.Thread(target=wait).start()
begun.wait()
print("over", flush=True)
"""


def test_the_end_of_the_program_closes_what_is_kept_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    assert program(ENDING, tmp_path) == ["over", "closed", "told", "told"]
