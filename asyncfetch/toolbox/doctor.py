"""What a prefix of S3 allows and how fast it is, one light for each thing that can be wrong, with its remedy."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    FetcherClosed,
    NoCredentials,
    OriginError,
    PreconditionFailed,
    UsageError,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins.control import Control
from asyncfetch.origins.endpoints import NotNative
from asyncfetch.origins.greeting import greet
from asyncfetch.streams import read_name
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Name
    from asyncfetch.origins.control import Encryption
    from asyncfetch.origins.greeting import Greeting

State = Literal["green", "red", "unknown"]

SAMPLE = 16  # objects that are read for latency and throughput
SAMPLE_BYTES = 64 << 20  # and their bytes at most, so that a bucket of films takes seconds
SOON = 3600.0  # seconds: credentials that end sooner are told of

_READING = ("read", "head", "ranges and conditions")  # what everybody asks for
_SKEW = 4 * 60.0  # seconds: S3 refuses from 15 minutes on, and a clock that is off goes on being


@dataclass(frozen=True, slots=True)
class Light:
    """One thing that was looked at.

    `state` is `"unknown"` where it could not be looked at, or does not exist there, and nobody asked for it: then
    `detail` says why. `value` is what was found, for programs.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    value: object = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All lights, in the order of their being looked at; `region` and `encryption` are the bucket's, where known."""

    prefix: str
    lights: tuple[Light, ...]
    region: str | None = None
    encryption: Encryption | None = None
    account: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether all that was asked is green: no light is red, and reading was tried."""
        return all(
            light.state == "green" or (light.state == "unknown" and light.name not in _READING) for light in self.lights
        )


async def diagnose(
    fetcher: Fetcher, prefix: Name, *, write: bool = False, seen: Callable[[Light], None] = lambda light: None
) -> Diagnosis:
    """Looks at what reading under a prefix needs, and with `write` at what writing does.

    It lists a page, and reads up to 16 objects of 64 MiB together, past the cache; with `write` it puts one probe
    object beside them, reads it back, tries to write it once more under a condition, and deletes it, also where it is
    cancelled; where there is no other object, that is the one with which reading is tried. `seen` is called with each
    light as it is known. What only an administrator may ask (versioning, encryption) is unknown without the permission,
    and not red.

    Raises `UsageError` for what is no prefix of S3; everything else that goes wrong is a red light.
    """
    location = read_name(prefix)[1]
    if location.scheme != "s3" or location.version is not None:
        raise UsageError(f"{location} is no prefix of S3", remedy="Write s3://bucket/prefix.")
    async with Control(fetcher.settings, fetcher.identities) as control:
        return await _Examination(fetcher, control, location, seen).run(write=write)


class _Examination:
    def __init__(self, fetcher: Fetcher, control: Control, prefix: Location, seen: Callable[[Light], None]) -> None:
        self._fetcher = fetcher
        self._control = control
        self._prefix = prefix
        self._access = fetcher.settings.access_for(prefix.container)
        self._seen = seen
        self._lights: list[Light] = []
        self._greeting: Greeting | None = None
        self._sample: list[ObjectStat] = []
        self._encryption: Encryption | None = None
        self._account: str | None = None

    async def run(self, *, write: bool) -> Diagnosis:
        await self._look("credentials", self._credentials)
        await self._look("endpoint", self._endpoint)
        await self._look("clock", self._clock)
        await self._look("identity", self._identity, optional=(UsageError, NoCredentials))
        await self._look("list", self._list)
        if self._state("list") == "red":
            await self._take_as_object()
        if self._sample:
            await self._reading()
        await self._look("versioning", self._versioning, optional=(OriginError,))
        await self._look("encryption", self._encrypted, optional=(OriginError,))
        if self._sample and self._state("read") == "green":
            await self._look("speed", self._speed)
        if write:
            await self._look("write", self._write)
        if self._state("read") is None:
            remedy = "--write tries it with an object of its own."
            if self._state("list") == "red":
                remedy = "Name one, s3://bucket/key: reading needs no listing."
            for name in _READING:
                self._add(Light(name, "unknown", "no object was found to try it with", remedy))
        region = self._greeting.region if self._greeting else None
        return Diagnosis(str(self._prefix), tuple(self._lights), region, self._encryption, self._account)

    async def _reading(self) -> None:
        for name, look in zip(_READING, (self._read, self._head, self._answers), strict=True):
            await self._look(name, look)

    async def _look(
        self,
        name: str,
        look: Callable[[], Awaitable[Light]],
        *,
        optional: tuple[type[AsyncfetchError], ...] = (),
    ) -> None:
        try:
            light = await look()
        except FetcherClosed:
            raise
        except (AsyncfetchError, OSError) as error:
            message = error.message if isinstance(error, AsyncfetchError) else str(error)
            remedy = error.remedy if isinstance(error, AsyncfetchError) else ""
            if isinstance(error, AccessDenied) and error.code is None and self._state("clock") == "red":
                # An answer to HEAD has no body to say so (RFC 9110, section 9.3.2).
                message = f"{error.uri}: refused without a reason (HTTP {error.status}), and the clock is one"
                remedy = "Set the clock, and look again."
            light = Light(name, "unknown" if isinstance(error, optional) else "red", message, remedy)
        self._add(light)

    def _add(self, light: Light) -> None:
        self._lights.append(light)
        self._seen(light)

    def _state(self, name: str) -> State | None:
        return next((light.state for light in self._lights if light.name == name), None)

    async def _credentials(self) -> Light:
        if self._access.anonymous:
            return Light("credentials", "green", "none are used: access is anonymous")
        source = self._fetcher.identities.of(self._access)
        await source.get(str(self._prefix))
        method, expiry = source.method or "lent", source.expiry
        value = {"from": method, "expires": None if math.isinf(expiry) else expiry}
        if math.isinf(expiry):
            return Light("credentials", "green", f"found ({method})", value=value)
        left = expiry - time.time()
        until = f"{datetime.fromtimestamp(expiry, UTC):%Y-%m-%d %H:%M:%SZ}"
        remedy = "Renew them before a long job." if left < SOON else ""
        return Light("credentials", "green", f"found ({method}), good until {until}", remedy, value)

    async def _endpoint(self) -> Light:
        greeting = await greet(self._fetcher.settings, self._fetcher.identities, self._prefix)
        if isinstance(greeting, NotNative):
            return Light("endpoint", "unknown", f"it is reached by way of aioboto3: {greeting.reason}")
        self._greeting = greeting
        where = f"{greeting.host}, answered in {greeting.seconds * 1000:.0f} ms"
        value = {"host": greeting.host, "region": greeting.region, "asked": greeting.asked_region}
        if greeting.region is None:
            return Light("endpoint", "green", f"{where}; it tells no region", value=value)
        if greeting.asked_region == greeting.region:
            return Light("endpoint", "green", f"{where}; region {greeting.region}", value=value)
        detail = f"{where}; the bucket is in {greeting.region}, and {greeting.asked_region or 'none'} is configured"
        remedy = f"Pass region={greeting.region!r} (--region), which spares each start a redirect."
        return Light("endpoint", "green", detail, remedy, value)

    async def _clock(self) -> Light:
        skew = self._greeting.skew if self._greeting else None
        if skew is None:
            return Light("clock", "unknown", "the endpoint told no time")
        detail = f"{abs(skew):.0f} s {'ahead of' if skew >= 0 else 'behind'} the endpoint's"
        if abs(skew) < _SKEW:
            return Light("clock", "green", detail, value=skew)
        return Light("clock", "red", detail, "Set the clock: S3 refuses signatures from 15 minutes on.", skew)

    async def _identity(self) -> Light:
        found = await self._control.identity(self._prefix)
        self._account = found.account
        return Light("identity", "green", found.arn, value=found._asdict())

    async def _list(self) -> Light:
        size = 0
        async with self._fetcher.list(self._prefix) as listing:
            async for stat in listing:
                if stat.size == 0:
                    continue
                if self._sample and size + stat.size > SAMPLE_BYTES:
                    break
                size += stat.size
                self._sample.append(stat)
                if len(self._sample) == SAMPLE:
                    break
        if not self._sample:
            return Light("list", "green", "allowed; no object with bytes lies there", value=0)
        more = " or more" if len(self._sample) == SAMPLE else ""
        return Light("list", "green", f"allowed; {len(self._sample)}{more} objects to try", value=len(self._sample))

    async def _take_as_object(self) -> None:
        """Where listing is not allowed, reading may be: the prefix can be the name of an object."""
        if self._prefix.key and not self._prefix.key.endswith("/"):
            with contextlib.suppress(AsyncfetchError, OSError):
                stat = await self._fetcher.stat(self._prefix)
                self._sample = [stat] if stat.size else []

    @property
    def _first(self) -> Location:
        return read_name(self._sample[0])[1]

    async def _read(self) -> Light:
        data = await self._fetcher.read_bytes(self._first, 0, 1, cache=False)
        return Light("read", "green", f"allowed: {self._first}", value=len(data))

    async def _head(self) -> Light:
        head = await self._control.head(self._first)
        told = head.stat.checksum
        checksum = f"it tells a {told.partition(':')[0].upper()}" if told else "no checksum is offered"
        remedy = "" if told else "NetworkPolicy(md5=True) checks ETags where they are MD5s."
        value = {"checksum": told and told.partition(":")[0]}
        return Light("head", "green", f"allowed; {checksum}", remedy, value)

    async def _answers(self) -> Light:
        probe = await self._control.probe(self._first)
        value = probe._asdict()
        name = "ranges and conditions"
        if probe.ranges and probe.conditions:
            return Light(name, "green", "both are honoured", value=value)
        missing = [word for word, there in (("ranges", probe.ranges), ("If-None-Match", probe.conditions)) if not there]
        remedy = "It is worked around, and costs whole bodies: look at proxies on the way."
        return Light(name, "red", f"not honoured: {' and '.join(missing)}", remedy, value)

    async def _versioning(self) -> Light:
        status = await self._control.versioning(self._prefix)
        return Light("versioning", "green", status or "off: what is overwritten or deleted is gone", value=status)

    async def _encrypted(self) -> Light:
        found = self._encryption = await self._control.encryption(self._prefix)
        if found is None:
            return Light("encryption", "green", "no default is told")
        return Light("encryption", "green", " ".join(part for part in found if part), value=found._asdict())

    async def _speed(self) -> Light:
        began = time.perf_counter()
        reads = [self._fetcher.fetch(stat, cache=False) for stat in self._sample]
        size = sum(entry.size for entry in await asyncio.gather(*reads))
        seconds = max(time.perf_counter() - began, 1e-9)
        first = self._fetcher.stats().first_byte
        detail = (
            f"{len(reads)} objects at once: {size / seconds / 1e6:.1f} MB/s, first byte after {first.p50 * 1000:.3g} ms"
        )
        value = {"objects": len(reads), "bytes": size, "seconds": seconds, "first_byte_seconds": first.p50}
        return Light("speed", "green", detail, "asyncfetch bench tells how many at once are enough.", value)

    async def _write(self) -> Light:
        name = f"{self._prefix.key}.asyncfetch-probe-{os.urandom(8).hex()}"
        probe, body = Location("s3", self._prefix.container, name), os.urandom(64)
        try:
            await self._control.put(probe, body)
            if not self._sample:
                self._sample = [ObjectStat(str(probe), len(body))]
                await self._reading()
            if await self._fetcher.read_bytes(probe, cache=False) != body:
                return Light(
                    "write", "red", "what was read back is not what was written", "Look at proxies on the way."
                )
            try:
                await self._control.put(probe, body, if_none_match="*")
                conditional = False
            except PreconditionFailed:
                conditional = True
        except BaseException:
            await self._remove(probe)
            raise
        await self._control.delete(probe)
        detail = "put, read back and deleted; conditional writes are " + ("honoured" if conditional else "ignored")
        remedy = "" if conditional else "Two jobs that write there at once can overwrite each other."
        return Light("write", "green", detail, remedy, {"conditional": conditional})

    async def _remove(self, probe: Location) -> None:
        """Deletes what may be there, and waits for it also where the examination is cancelled."""
        removing = asyncio.ensure_future(self._control.delete(probe))
        await asyncio.wait({removing}, timeout=10)
        if removing.done():
            removing.exception()  # the reason that is told is why the probe failed
        else:
            removing.cancel()
