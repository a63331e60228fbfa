"""The life of a fetcher: one task that hosts all that is under way, from the opening until everything is freed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from asyncfetch.cache import Cache
from asyncfetch.decode import DecodePool, Quarantine
from asyncfetch.engine import Engine
from asyncfetch.errors import FetcherClosed, ForeignUse, UsageError
from asyncfetch.origins import open_origins
from asyncfetch.origins.identities import Identities

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from anyio.abc import TaskGroup

    from asyncfetch.origins import Origin
    from asyncfetch.settings import Settings

_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()  # on which a fetcher was opened


class Supervisor:
    """Opens an engine once, and closes it, in one task of its own.

    `settings` are those it was made with; while it is open, they are part of a job.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._engine: Engine | None = None
        self._identities: Identities | None = None
        self._closing: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._pid = 0

    async def open(self) -> None:
        """Returns when the engine can be used. Raises why it could not be opened; cancelled, it is closed."""
        if self._task is not None:
            raise UsageError("A fetcher is opened once", remedy="Make another with the same settings.")
        self._pid = os.getpid()
        _loops.add(asyncio.get_running_loop())
        self._closing = asyncio.Event()
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(opened), name="asyncfetch supervisor")
        try:
            await asyncio.wait([opened, self._task], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if not opened.done():
            await self._task  # raises why it could not open

    async def aclose(self) -> None:
        """Ends everything under way and frees what is held; cancelled, it does so all the same.

        In a forked child there is nothing to end: all of it is the parent's.
        """
        task = self._task
        if task is None or self._closing is None or os.getpid() != self._pid:
            return
        self._check_home()
        self._closing.set()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        if not task.cancelled():
            task.result()

    def engine(self) -> Engine:
        """The engine while it is open. Raises `FetcherClosed`, and `ForeignUse` after a fork or on another loop."""
        engine = self._engine
        if engine is None:
            raise FetcherClosed("This fetcher is not open" if self._task is None else "This fetcher is closed")
        self._check_home()
        return engine

    def identities(self) -> Identities:
        """Who signs, while it is open. Raises as `engine` does."""
        self.engine()
        assert self._identities is not None
        return self._identities

    async def _supervise(self, opened: asyncio.Future[None]) -> None:
        """Hosts the only task group, so that the user's own tasks and exceptions never meet it."""
        assert self._closing is not None
        loop = asyncio.get_running_loop()
        given = self.settings
        settings = replace(given, job=given.current_job)
        identities = Identities()
        origins = open_origins(settings, identities)
        cache = await _open_cache(settings, loop)
        engine: Engine | None = None
        try:
            async with anyio.create_task_group() as group:
                engine = Engine(
                    settings,
                    loop=loop,
                    cache=cache,
                    origins=origins,
                    make_pool=partial(
                        DecodePool, settings.decode, quarantine=Quarantine(cache), on_header=cache.on_header
                    ),
                    start=lambda run: _start(group, run),
                )
                self._engine, self._identities, self.settings = engine, identities, settings
                opened.set_result(None)
                await self._closing.wait()
                self._engine = None
                engine.close()
                group.cancel_scope.cancel()
        finally:
            self._engine, self._identities, self.settings = None, None, given
            # A forked child has none of the threads to wait for, and what is held is its parent's.
            if os.getpid() == self._pid:
                with anyio.CancelScope(shield=True):
                    await _free(engine, origins, identities, cache)

    def _check_home(self) -> None:
        if os.getpid() != self._pid:
            raise ForeignUse(
                f"This fetcher was opened in process {self._pid} and is used after a fork in {os.getpid()}"
            )
        if self._task is not None and asyncio.get_running_loop() is not self._task.get_loop():
            raise ForeignUse("This fetcher was opened on another event loop")


async def _open_cache(settings: Settings, loop: asyncio.AbstractEventLoop) -> Cache:
    open_it = partial(Cache.open, settings.cache, loop=loop, job_started=settings.current_job.started)
    opening = loop.run_in_executor(None, open_it)  # no task: nobody cancels it
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread goes on, and what it opens must be closed.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([opening])
            if opening.exception() is None:
                await opening.result().aclose()
        raise


async def _free(engine: Engine | None, origins: Mapping[str, Origin], identities: Identities, cache: Cache) -> None:
    if engine is not None:
        engine.close()
        await engine.pool.aclose()
    for origin in {id(origin): origin for origin in origins.values()}.values():
        await origin.aclose()
    await identities.aclose()
    await cache.aclose()


def _start(group: TaskGroup, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    group.start_soon(run)


def _part() -> None:
    """In a forked child: lets loops watch nothing, where they would share what they watch with their parent's.

    The child of a program with connections and threads on its loop ends by unwinding through that: it closes them, and
    with that takes them out of the one epoll instance (epoll_ctl(2)) that both have. The parent would hear of neither
    ever after (github.com/python/cpython/issues/66197). A kqueue is not inherited.

    Nor may threads and signals of the child wake its parent. Threads wake a loop of asyncio by a pipe of its own from
    here on; that of uvloop cannot be had anew, and goes on when a timer is due. Signals wake neither, as Python itself
    has it from 3.12 on.
    """
    loop: Any
    for loop in list(_loops):
        with contextlib.suppress(AttributeError, OSError, ValueError), select.epoll() as own:
            os.dup2(own.fileno(), _epoll_of(loop), inheritable=False)
            signal.set_wakeup_fd(-1)
            loop._close_self_pipe()
            loop._make_self_pipe()


def _epoll_of(loop: Any) -> int:
    """The descriptor of what a loop waits with, which neither asyncio nor uvloop has a public name for."""
    descriptor: int = loop._get_backend_id() if hasattr(loop, "_get_backend_id") else loop._selector.fileno()
    return descriptor


os.register_at_fork(after_in_child=_part)
