"""An S3 server whose answers go wrong by a plan that can be replayed, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, NamedTuple

from anyio import to_thread

from asyncfetch.bell import Bell
from asyncfetch.errors import UsageError
from asyncfetch.testing.faults import Fault, Faults, draw
from asyncfetch.testing.scripted import Ending, ScriptedServer
from asyncfetch.testing.servers import Credentials
from asyncfetch.testing.shelf import Shelf, refusal
from asyncfetch.testing.signatures import fault_of
from asyncfetch.testing.spoiling import REFUSED_WITH, fits, spoiled

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import TracebackType

    from asyncfetch.testing.scripted import Answer, RawRequest
    from asyncfetch.testing.shelf import Checksum, Reply


class Asked(NamedTuple):
    """A request that was answered: `key` is `""` for a listing, `fault` None for an answer without one."""

    method: str
    key: str
    status: int  # 0 where nothing was answered
    fault: Fault | None


class FaultServer:
    """S3's GET, HEAD and ListObjectsV2 over the objects of one bucket, with faults; a context manager, or an async one.

    `objects` gives each key its bytes (`Generated` makes them as they are asked for), `bucket` is in the path. The
    fault of an answer follows from `seed`, key and the how-manieth request for that key alone, so a run that failed
    replays. `faults` may be exchanged at any time.

    With `credentials` every request has to be signed by them or by those that `accept` adds; without, nothing is
    checked. `checksum` is told with whole objects to who asks for it by `x-amz-checksum-mode`. With `part_size` larger
    objects are as after an upload in parts of so many bytes: ETag and checksum are composite, and `partNumber` gives a
    part. With `tls` it speaks TLS. `clock` is by how many seconds its clock is ahead.

    It runs on a thread with a loop of its own, at 127.0.0.1 and a port of the system's choice, and answers some
    thousand requests a second, on a core that it shares with a client in the same process. Leaving ends it at once.
    """

    def __init__(
        self,
        objects: Mapping[str, bytes],
        *,
        bucket: str = "bucket",
        faults: Faults | None = None,
        seed: int = 0,
        credentials: Credentials | None = None,
        checksum: Checksum | None = None,
        part_size: int | None = None,
        tls: ssl.SSLContext | None = None,
        clock: float = 0.0,
    ) -> None:
        self.bucket = bucket
        self.faults = faults or Faults()
        self.credentials = credentials or Credentials("faulty", "faulty-secret")
        self._seed = seed
        self._clock = clock
        self._tls = tls
        self._shelf = Shelf(objects, bucket=bucket, checksum=checksum, part_size=part_size)
        self._secrets = dict([credentials]) if credentials else None
        self._expired: set[str] = set()
        self._lock = threading.Lock()
        self._asked: Counter[Asked] = Counter()  # written by the server's thread, under the lock
        self._turns: Counter[str] = Counter()  # requests by key; this and what follows are of that thread
        self._total = 0
        self._limit = _Limit()
        self._outage_over = False
        self._thread: threading.Thread | None = None
        self._port = 0
        self._serving = False
        self._news = Bell()  # it serves, does no longer, or has failed
        self._failure: BaseException | None = None

    @property
    def endpoint_url(self) -> str:
        """Where it serves. Raises `UsageError` outside of its context."""
        if self._thread is None:
            raise UsageError("this server is not running", remedy="Use it inside `with` or `async with`.")
        return f"{'https' if self._tls else 'http'}://{ScriptedServer.host}:{self._port}"

    def uri(self, key: str = "") -> str:
        """An object's URI."""
        return f"s3://{self.bucket}/{key}"

    def versions(self, key: str) -> tuple[bytes, ...]:
        """What an object has been since the server was made: one body, or two where it was replaced."""
        return self._shelf.versions(key)

    def replace(self, key: str) -> None:
        """Stores another object of the same size in a key's place."""
        self._shelf.replace(key)

    def accept(self, credentials: Credentials) -> None:
        """Takes requests signed by these from now on, too."""
        self._secrets = {**(self._secrets or {}), credentials.access_key_id: credentials.secret_access_key}

    def expire(self, credentials: Credentials) -> None:
        """Answers requests signed by these with ExpiredToken from now on."""
        self._expired.add(credentials.access_key_id)

    def asked(self) -> Counter[Asked]:
        """How often it was asked what, since it was made."""
        with self._lock:
            return Counter(self._asked)

    def count(
        self,
        *,
        method: str | None = None,
        key: str | None = None,
        status: int | None = None,
        fault: Fault | None = None,
    ) -> int:
        """The requests that have all of what is given."""
        wanted = (method, key, status, fault)
        return sum(
            times
            for asked, times in self.asked().items()
            if all(want is None or want == had for want, had in zip(wanted, asked, strict=True))
        )

    def go_down(self) -> None:
        """Ends every connection and refuses new ones until `come_up`."""
        self._loop.call_soon_threadsafe(self._leave.set)
        self._news.until(lambda: not self._serving)

    def come_up(self) -> None:
        """Ends an outage, at the same port."""
        self._loop.call_soon_threadsafe(self._back.set)
        self._news.until(lambda: self._serving or self._failure)

    def __enter__(self) -> FaultServer:
        if self._thread is not None:
            raise UsageError("this server is running already", remedy="Make another one.")
        self._thread = threading.Thread(target=self._run, name="asyncfetch: fault server", daemon=True)
        self._thread.start()
        self._news.until(lambda: self._serving or self._failure)
        if self._failure is not None:
            self._join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._join()

    async def __aenter__(self) -> FaultServer:
        return self.__enter__()  # a matter of a millisecond

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await to_thread.run_sync(self._join)

    def _join(self) -> None:
        assert self._thread is not None
        if self._failure is None:
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure

    # What runs on the thread.

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # raised where the server is left
            self._failure = error
        self._serving = False
        self._news.ring()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        while not self._stopped:
            self._leave, self._back = asyncio.Event(), asyncio.Event()
            async with ScriptedServer(self._reply, tls=self._tls, port=self._port) as self._server:
                self._port = self._server.port
                self._serving = True
                self._news.ring()
                await self._leave.wait()
            self._serving = False
            self._news.ring()
            await self._back.wait()

    def _stop(self) -> None:
        self._stopped = True
        self._leave.set()
        self._back.set()

    def _reply(self, request: RawRequest) -> Answer:
        self._server.requests.clear()  # they are counted here
        faults = self.faults
        method, target = request.method, request.target
        headers = _headers(request.head)
        key = self._shelf.key_of(target) or ""
        self._total += 1
        if faults.outage_after is not None and self._total > faults.outage_after and not self._outage_over:
            self._outage_over = True
            self._leave.set()
            self._loop.call_later(faults.outage_seconds, self._back.set)
        if self._leave.is_set():
            self._note(method, key, 0, Fault.OUTAGE)
            return [Ending.RESET]
        self._turns[key] += 1
        nth = self._turns[key]
        now = time.time() + self._clock
        fault: Fault | None = None
        if faults.rate_limit is not None and key.startswith(faults.limited_prefix):
            fault = None if self._limit.takes(faults.rate_limit, faults.burst) else Fault.LIMITED
        reply = self._refused(method, target, headers, now) or self._shelf.reply(method, target, headers)
        if fault is None:
            fault = faults.choose(self._seed, key, nth)
            fault = fault if fault is not None and fits(fault, reply) else None
        always = (("Date", formatdate(now, usegmt=True)), ("x-amz-request-id", f"{self._total:016X}"))
        answer = spoiled(
            reply, fault, always, at=draw(self._seed, key, nth, "where"), faults=faults, head=method == "HEAD"
        )
        if fault is Fault.REPLACE:
            self._shelf.replace(key)
        self._note(method, key, REFUSED_WITH[fault][0] if fault in REFUSED_WITH else reply.status, fault)
        return answer

    def _refused(self, method: str, target: str, headers: Mapping[str, str], now: float) -> Reply | None:
        if self._secrets is None:
            return None
        code = fault_of(method, target, headers, self._secrets, now=now)
        access_key = headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
        if code is None and access_key in self._expired:
            code = "ExpiredToken"
        if code is None:
            return None
        when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        more = f"<ServerTime>{when}</ServerTime>" if code == "RequestTimeTooSkewed" else ""
        reply = refusal(400 if code in _BAD else 403, code, more=more)
        return reply._replace(body=b"") if method == "HEAD" else reply

    def _note(self, method: str, key: str, status: int, fault: Fault | None) -> None:
        with self._lock:
            self._asked[Asked(method, key, status, fault)] += 1


_BAD: Final = frozenset({"ExpiredToken", "AuthorizationHeaderMalformed"})


class _Limit:
    """A bucket of tokens: one for each request, filled at the rate that is allowed."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._since = 0.0

    def takes(self, rate: float, burst: int) -> bool:
        """Whether one more request is within the limit."""
        now = time.monotonic()
        full = burst if self._tokens is None else self._tokens + rate * (now - self._since)
        self._since = now
        self._tokens = min(full, burst)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _headers(head: bytes) -> dict[str, str]:
    """Names in lower case; those given twice are joined (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
