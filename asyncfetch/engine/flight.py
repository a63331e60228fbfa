"""The way of one object from its origin to local disk: one read of all of it, or parts where it is large."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from asyncfetch.cache import BODY_MEMORY
from asyncfetch.engine.errand import Errand
from asyncfetch.engine.hedges import UNKNOWN, size_class
from asyncfetch.engine.parts import Enough
from asyncfetch.engine.twin import Twin
from asyncfetch.errors import ObjectNotFound
from asyncfetch.objects import NotModified, ObjectStat

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncfetch.cache import Body, Found, Published, RefKey
    from asyncfetch.engine.flights import Flights
    from asyncfetch.engine.parts import Outcome, Parts
    from asyncfetch.engine.tickets import Ticket
    from asyncfetch.origins import Sink


class Flight(Errand):
    """The way of one object from its origin to local disk."""

    __slots__ = (
        "asked",
        "found",
        "heard",
        "key",
        "listed",
        "parts",
        "private",
        "stat",
        "table",
        "tickets",
        "twin",
        "uri",
        "whole",
    )

    def __init__(self, table: Flights, tickets: list[Ticket], key: RefKey, *, whole: bool = False) -> None:
        """Takes over a list of tickets for one object, the cache's `key`.

        `whole` ones do not go on in parts, however large the object is.
        """
        ticket = tickets[0]
        super().__init__(ticket.location)
        self.table = table
        self.uri = ticket.uri
        self.key = key
        self.listed = ticket.listed
        self.private = ticket.private
        self.tickets = tickets
        for each in tickets:
            each.flight = self
            self.urgent = self.urgent or each.urgent
        self.found: Found | None = None
        self.whole = whole
        self.parts: Parts | None = None
        self.heard = False  # the answer to its read has begun
        self.twin: Twin | None = None
        self.stat: ObjectStat | None = None  # what the origin said of the body that was handed to the cache
        self.asked = 0.0  # in seconds since 1970; what the origin answers was so at some moment after this one

    @property
    def need(self) -> int:
        """The body's memory: its size where that is known, at most what large ones hold on their way to the disk."""
        if self.listed is not None:
            return min(self.listed.size, BODY_MEMORY)
        return min(self.found.ref.size, BODY_MEMORY) if self.found else BODY_MEMORY

    @property
    def unheard(self) -> int | None:
        if self.heard or self.twin is not None or self.parts is not None:
            return None
        return self._kind()

    def hedge(self, start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]) -> bool:
        self.twin = Twin(self)
        start(self.twin.run)
        return True

    async def fly(self) -> None:
        """Asks the origin and hands what came to the cache; the lane is free before it lies on the disk."""
        if self.parts is None:
            table = self.table
            self.asked = time.time()
            self.heard = False
            sink = table.cache.sink(on_length=self._learned, on_head=self._go_on_in_parts)
            body: Body | None = None
            answer: ObjectStat | NotModified | None = None
            try:
                try:
                    answer = await self.read(sink)
                except BaseException as error:
                    if self.twin is None or not self.twin.takes_over(error):
                        raise
                    sink.abort()
                    sink = self.twin.sink
                    answer = await self.twin.answer()
                if self.parts is None and not isinstance(answer, NotModified):
                    body = await sink.finish()  # an empty body is heard of only now
                    table.meter.whole.add(time.perf_counter() - self.began)
            except Enough:
                pass
            except ObjectNotFound:
                sink.abort()
                table.cache.forget(self.key)
                raise
            except Exception:
                sink.abort()
                if self.parts is not None:
                    await self.parts.flush_first()
                raise
            except BaseException:
                if self.twin is None or self.twin.sink is not sink or not self.twin.running:
                    sink.abort()
                    if self.parts is not None:
                        self.parts.close_first()
                raise
            finally:
                if self.twin is not None:
                    self.twin.stop()
                    self.twin = None
            if body is not None:
                assert isinstance(answer, ObjectStat)
                self._hand_over(body, answer)
                return
            if self.parts is None:
                sink.abort()
                self.release()
                self._note_wait()
                table.confirmed(self)
                return
            await self.parts.flush_first()
        await self.parts.resume_first()
        self.release()
        await self.parts.end_first()

    def read(self, sink: Sink) -> Coroutine[Any, Any, ObjectStat | NotModified]:
        """Asks the origin for all of it, or whether it is still what the cache has."""
        etag = self.found.ref.etag if self.found else None
        return self.table.origins[self.location.scheme].read(self.location, sink, if_none_match=etag)

    def fail(self, error: Exception) -> None:
        """Takes the error that stands."""
        if self.parts is not None:
            self.parts.fail(error)
        else:
            self.table.failed(self, error)

    def parts_ended(self, outcome: Outcome) -> None:
        """Takes what became of the parts."""
        assert self.parts is not None
        if outcome.body is not None:
            self.table.meter.whole.add(time.perf_counter() - self.began)
            self._hand_over(outcome.body, self.parts.stat)
        else:
            assert outcome.error is not None
            self.table.parts_failed(self, outcome.error)

    def goes_on(self, stat: ObjectStat) -> Sink | None:
        """The head of the answer that counts says what comes: a large object goes on in parts."""
        self.parts = self.table.begin_parts(self, stat)
        if self.parts is None:
            return None
        self.hears(stat.size)
        return self.parts.first_sink()

    def hears(self, length: int) -> None:
        """The head of the answer that counts is there."""
        self.heard = True
        meter = self.table.meter
        meter.first_byte.add(self._note_wait())
        if self.twin is not None:
            meter.hedged_bytes += length
        grant = self.grant
        if grant is not None and length < grant.amount:
            grant.correct(length)

    def _go_on_in_parts(self, stat: ObjectStat, start: int) -> Sink | None:
        if self.twin is None:
            return self.goes_on(stat) if stat.size >= self.table.parts_from else None
        return self.goes_on(stat) if self.twin.overtaken() else None

    def _learned(self, length: int) -> None:
        if self.twin is None or self.twin.overtaken():
            self.hears(length)

    def _note_wait(self) -> float:
        """Has the wait for the answer, which it returns, count for what is usual."""
        waited = time.perf_counter() - self.began
        assert self.place is not None
        self.place.hedges.heard(self._kind(), waited)
        return waited

    def _kind(self) -> int:
        """The size class of what it brings, as far as that was known before."""
        if self.listed is not None:
            return size_class(self.listed.size)
        return UNKNOWN if self.found is None else size_class(self.found.ref.size)

    def _hand_over(self, body: Body, stat: ObjectStat) -> None:
        """Gives a whole body to the cache."""
        table = self.table
        self.stat = stat
        if self.private:
            table.cache.keep_private(body, self._published)
        else:
            table.cache.publish(
                body,
                self.key,
                self._published,
                etag=stat.etag,
                last_modified=stat.last_modified.timestamp() if stat.last_modified else None,
                validated=self.asked,
            )

    def _published(self, outcome: Published | Exception) -> None:
        self.release()
        self.table.published(self, outcome)
