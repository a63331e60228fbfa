"""Tickets for local files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from asyncfetch.engine.files import Files
from asyncfetch.engine.meter import Meter
from asyncfetch.engine.tickets import Crash, Landed, Ticket
from asyncfetch.uris import parse


class Asked(Ticket):
    """A ticket that says what came of it, or raises what it was given."""

    __slots__ = ("fault", "told")

    def __init__(self, path: Path, fault: Exception | None = None) -> None:
        super().__init__(str(path), parse(f"file://{path}"), None)
        self.fault = fault
        self.told: asyncio.Future[Landed | Crash] = asyncio.get_running_loop().create_future()

    def land(self, landed: Landed) -> None:
        if self.fault is not None:
            raise self.fault
        self.told.set_result(landed)

    def crash(self, crash: Crash) -> None:
        if self.fault is not None:
            raise self.fault
        self.told.set_result(crash)


async def test_a_ticket_that_cannot_take_what_was_found_keeps_it_from_no_other(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.write_bytes(b"body")
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    meter = Meter()
    line = Files(loop, meter)
    faults = [ValueError(str(number)) for number in range(4)]
    paths = [there, missing, there, missing]
    first = [Asked(path, fault) for path, fault in zip(paths, faults, strict=True)] + [Asked(there), Asked(missing)]
    second = [Asked(there)]
    line.request(first)
    line.request(second)
    landed, crashed, later = await asyncio.gather(first[4].told, first[5].told, second[0].told)
    assert isinstance(landed, Landed)
    assert isinstance(crashed, Crash)
    assert isinstance(later, Landed)
    assert [context["exception"] for context in reported] == faults
    assert (meter.objects, meter.bytes, dict(meter.failures)) == (2, 8, {"ObjectNotFound": 1})
