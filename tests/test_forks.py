"""A fork amid an open fetcher: the child ends as it likes, and the parent goes on as if nothing had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blocking.scripts import program

if TYPE_CHECKING:
    from pathlib import Path

FORKING = """
import asyncio, faulthandler, os, pathlib, signal, socket, sys, threading, warnings
from asyncfetch import Fetcher

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
how, loop = sys.argv[1:]
pathlib.Path("a").write_bytes(b"a")

async def main():
    running = asyncio.get_running_loop()
    running.add_signal_handler(signal.SIGUSR1, print, "the parent hears a signal of its child")
    silent = socket.create_server(("127.0.0.1", 0))
    async with Fetcher(cache_dir="cache", workers=1) as fetcher:
        await fetcher.fetch("a")
        waits = asyncio.create_task(fetcher.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/b"))
        connection, _ = await asyncio.to_thread(silent.accept)
        child = os.fork()
        if not child:
            sys.stderr = open(os.devnull, "w")
            faulthandler.dump_traceback_later(15, exit=True, file=sys.stderr)  # which is status 1
            signal.raise_signal(signal.SIGUSR1)
            if how == "exit":
                sys.exit(7)
            if how == "close":
                await fetcher.aclose()
            elif how == "raise":
                raise ValueError
            elif how == "thread":
                for timer in running._scheduled:  # so that nothing but the thread ends the wait
                    timer.cancel()
                woken = running.create_future()
                threading.Timer(0.1, running.call_soon_threadsafe, (woken.set_result, None)).start()
                await woken
            os.write(1, b"returns\\n")
            return
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            await asyncio.sleep(0.01)
        assert (await fetcher.fetch("a")).size == 1
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\nb")
        print((await waits).path.read_bytes())

runner = asyncio.Runner(loop_factory=None if loop == "asyncio" else __import__("uvloop").new_event_loop)
here = os.getpid()
try:
    with runner:
        runner.run(main())
except BaseException as error:
    if os.getpid() == here:
        raise
    os.write(1, f"{type(error).__name__}\\n".encode())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("how", "told"), [("exit", "SystemExit"), ("raise", "ValueError"), ("return", "returns"), ("close", "returns")]
)
def test_a_forked_child_unwinds_at_once_and_takes_nothing_from_its_parent(
    tmp_path: Path, how: str, told: str, loop: str
) -> None:
    code = FORKING.replace("sys.argv[1:]", repr((how, loop)))
    assert program(code, tmp_path) == [told, "b'b'"]


def test_a_thread_of_a_forked_child_wakes_its_loop(tmp_path: Path) -> None:
    code = FORKING.replace("sys.argv[1:]", repr(("thread", "asyncio")))
    assert program(code, tmp_path) == ["returns", "b'b'"]


LINE = """
import asyncio, os, pathlib, sys, warnings
from asyncfetch.cache import Cache, mounts
from asyncfetch.settings import CachePolicy
from tests.cache.helpers import keep_private, settled

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
mounts.mounts = lambda: [mounts.Mount("/", "tmpfs", "tmpfs")]
(handed_in,) = sys.argv[1:]

async def main():
    loop = asyncio.get_running_loop()
    cache = Cache.open(CachePolicy(cache_dir=pathlib.Path("cache")), loop=loop)
    kept = pathlib.Path((await keep_private(cache, b"one")).path)
    while not cache._thread.is_free():
        await asyncio.sleep(0)
    cache.discard(str(kept))
    if handed_in:
        cache._hand_in()
    child = os.fork()
    if not child:
        turn = loop.create_future()
        loop.call_later(0.1, turn.set_result, None)  # after all that was in line
        await turn
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), kept.exists())
    await settled(cache)
    print(kept.exists())
    await cache.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("handed_in", [False, True])
def test_a_forked_child_does_nothing_that_its_parents_cache_has_in_line(tmp_path: Path, handed_in: bool) -> None:
    code = LINE.replace("sys.argv[1:]", repr((handed_in,)))
    assert program(code, tmp_path) == ["0 True", "False"]
