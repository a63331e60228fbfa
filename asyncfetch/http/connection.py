"""One connection: bytes from the transport into a parser, one request at a time, every end of it accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from asyncfetch.http.errors import ReadTimeout, Stalled
from asyncfetch.http.parser import ResponseParser
from asyncfetch.http.receivers import Loan
from asyncfetch.http.tls import ResumingContext

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from asyncfetch.http.exchange import Exchange
    from asyncfetch.http.parser import Response
    from asyncfetch.http.receivers import Intake, Receivers

logger = logging.getLogger(__name__)

# A connection idle for longer than this, in seconds, is looked at before it is used again. The look is a system call
# that lets go of the interpreter: with another thread at work that costs 8 us, and at full speed, where a connection is
# idle for some turns of the loop, nearly each request would pay. No server gives up a connection so soon.
UNSEEN: Final = 0.25

# RFC 9110, section 9.2.2: to do these twice is to do them once, so they may be repeated on a fresh connection.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class Waits(NamedTuple):
    """How long a server may be silent before an answer and within it, and of how many bytes in what time it may not
    stay short once it has begun. Times in seconds.
    """

    first_byte: float
    silence: float
    stall_bytes: int
    stall_window: float


class Keeper(Protocol):
    """Who owns connections, and hears what becomes of them."""

    def freed(self, connection: Connection) -> None:
        """A response was whole, and the connection can take another request."""

    def gone(self, connection: Connection, repeat: Exchange | None) -> None:
        """The connection takes no more requests; `repeat` was on it, and may be sent again. Said once."""

    def closed(self, connection: Connection) -> None:
        """Transport and thread have let go of its socket. Said once, if it was ever connected."""


class Connection(asyncio.BufferedProtocol):
    """One connection to a server; `start` sends a request when there is none on it.

    Bytes between responses are a violation of the protocol, and the connection is closed. A view that receives a body
    goes one byte beyond it where the sink has the room; where it has not, or whatever else the last bytes of an answer
    came into was filled by them, and behind an answer that announced a body without having one (to HEAD, 304), the
    socket is looked at before it takes the next request. What such a server sends later still, behind a request that
    was sent meanwhile, nobody can tell from the answer to that, if it looks like one (RFC 9112, section 9.2).

    While a large body comes over plain TCP its socket is lent to a thread, which receives what the sink takes there and
    not a byte more; the loop reads no more until it has it back. Over TLS, whose state is the loop's, it is not lent.
    """

    def __init__(self, keeper: Keeper, receivers: Receivers, *, max_head: int, max_headers: int) -> None:
        self.exchange: Exchange | None = None
        self.fresh = True  # no request was served on it, and it was never idle
        self.retiring = False  # to be closed after the request on it
        self.usable = True
        self._keeper = keeper
        self._receivers = receivers
        self._parser = ResponseParser(max_head=max_head, max_headers=max_headers)
        self._transport: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._poll = select.poll()
        self._socket: socket.socket | None = None
        self._blocked: asyncio.Future[None] | None = None  # reading is paused until it is done
        self._loan: Loan | None = None  # under way; it may outlive the request, and the transport
        self._loop = asyncio.get_running_loop()
        self._done_at = -1.0  # the loop's time when the last response was whole
        self._offered = 0  # bytes of the room given last
        # Something may have come that the loop did not show: the last read had no room for it, or reading was paused
        # and a TLS layer has forgotten what ended meanwhile.
        self._hidden = False
        self._heard = False  # something happened since the last look at the clock
        self._quiet_since = 0.0
        self._received = 0  # of the answer to the request on it, head included
        # When the window began in which bytes are counted (-1.0: at the next look), and `_slow_from` those before it.
        self._slow_since = -1.0
        self._slow_from = 0
        self._ended = self._lost = False  # by the server in good order; otherwise
        self._closed = False  # the transport has let go of its socket
        self._cut_off = False  # a thread has met the end, and the loop will

    def watch(self, sock: socket.socket) -> None:
        """Names the socket under the transport, to look at it before each request, and to lend it."""
        self._poll.register(sock, select.POLLIN)
        self._socket = sock
        if self._tls is None:
            self._parser.lender = self._lend

    def start(self, exchange: Exchange) -> bool:
        """Sends a request. False when it could not be built: its future knows, and nothing was sent."""
        unseen, self._hidden = self._hidden or self._loop.time() - self._done_at > UNSEEN, False
        if unseen and not self.fresh and self._poll.poll(0):
            # The server has hung up, or sent bytes that would pass for this request's answer, and the loop did not tell
            # yet: asyncio reads but once a turn, no more than there is room for, and its TLS layer forgets an end that
            # comes while reading is paused.
            self._leave(exchange)
            self.close()
            return True
        try:
            data = exchange.build()
        except Exception as error:  # whatever the caller's code raises is the caller's to see
            exchange.fail(error)
            return False
        self.exchange = exchange
        exchange.connection = self
        self._heard = True
        self._received = 0
        self._slow_since = -1.0
        self._parser.expect(exchange, answers_head=exchange.method == "HEAD", max_body=exchange.max_body)
        self._transport.write(data)  # type: ignore[union-attr]  # a connection is started only once connected
        return True

    def fail(self, error: BaseException) -> None:
        """Closes the connection; the request on it, if any, fails with `error`."""
        exchange = self._detach()
        self.close()
        if exchange is not None:
            exchange.fail(error)

    def close(self) -> None:
        """Closes the connection at once. A request on it is told nothing, and its sink is not touched again."""
        self._detach()
        self._leave(None)
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float, waits: Waits) -> None:
        """Fails the request on it if the server was silent for too long, or too slow, as far as checks can tell."""
        loan = self._loan
        if loan is not None:
            self._count(loan)
        idle = self.exchange is None or (self._blocked is not None if loan is None else loan.busy)
        if self._heard or idle:
            self._heard = False
            self._quiet_since = now
        if idle or not self._received or self._slow_since < 0:
            self._slow_since, self._slow_from = now, self._received
        if idle:
            return
        limit = waits.silence if self._received else waits.first_byte
        came, lasted = self._received - self._slow_from, now - self._slow_since
        if now - self._quiet_since >= limit:
            self.fail(ReadTimeout(limit, self._parser.progress))
        elif came >= waits.stall_bytes:
            self._slow_since, self._slow_from = now, self._received
        elif lasted >= waits.stall_window:
            self.fail(Stalled(came, lasted, self._parser.progress))

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._tls = transport.get_extra_info("ssl_object")
        if not self.usable:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        try:
            room = self._parser.get_buffer()
        except Exception as error:  # a sink's; raised further, the loop would log it and lose it
            exchange = self._detach()
            if exchange is not None:
                exchange.fail(error)
            self._leave(None)
            # Not now: a transport of uvloop that is closed in here takes the process with it.
            self._loop.call_soon(self.close)
            return self._parser.get_buffer()
        self._offered = len(room)
        return room

    def buffer_updated(self, nbytes: int) -> None:
        if self.exchange is None:
            if self.usable:
                logger.info("a server sent bytes that no request asked for; the connection is closed")
                self.close()
            return
        self._heard = True
        self._received += nbytes
        try:
            response = self._parser.received(nbytes)
        except Exception as error:  # of the parser, the sink or on_head; all end the request
            self.fail(error)
            return
        except BaseException as error:
            self._interrupted(error)
            raise
        if response is not None:
            if nbytes == self._offered or (not response.received and response.head.announces_body):
                self._hidden = True
            self._finish(response)
        elif self._parser.blocked is not None:
            self._pause()

    def eof_received(self) -> bool:
        if self.exchange is None:
            self.close()
        elif not self._in_good_order():
            self._lost = True
        else:
            self._ended = True
        if self.exchange is not None and self._blocked is None:
            self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.exchange is None:
            self._leave(None)
        elif self._blocked is None:
            self._end(exc)
        self._closed = True
        if self._loan is None:  # else its thread has the socket yet
            self._keeper.closed(self)

    # How a response goes on and ends.

    def _finish(self, response: Response) -> None:
        exchange = self.exchange
        assert exchange is not None
        self.exchange = exchange.connection = None
        if self.fresh and self._tls is not None and isinstance(self._tls.context, ResumingContext):
            self._tls.context.keep(self._tls)
        self.fresh = False
        self._done_at = self._loop.time()
        if not response.head.persistent or self._ended or self._lost or self._parser.surplus or self.retiring:
            self.close()
        elif self._tls is None:
            self._keeper.freed(self)
        else:
            # The TLS layer may hold more bytes than the response has. It has asked the loop to go on with them, so they
            # show before this is called, and this is called before whoever waits for the response goes on.
            self._loop.call_soon(self._rest)
        exchange.end(response)

    def _rest(self) -> None:
        if self.usable:
            self._keeper.freed(self)

    def _end(self, cause: Exception | None = None) -> None:
        """The connection has ended under a request; in good order that is how a body of unknown length ends."""
        response = self._parser.ended() if self._ended else None
        if response is not None:
            self._finish(response)
        else:
            self._cut(cause)

    def _interrupted(self, error: BaseException) -> None:
        """A signal's exception came amid an answer: nobody knows how much of it was taken, so the rest is not."""
        if self.exchange is not None:
            self._cut(error)

    def _cut(self, cause: BaseException | None) -> None:
        """The connection ended under a request, which is repeated where that is safe: if no answer had begun.

        The repeat has a fresh connection, and is not repeated on that.
        """
        error = self._parser.lost()
        error.__cause__ = cause
        exchange = self._detach()
        assert exchange is not None
        if error.stale and not self.fresh and exchange.method in IDEMPOTENT and exchange.wanted:
            self._leave(exchange)
        else:
            exchange.fail(error)
        self.close()

    def _pause(self) -> None:
        """Reads no more until the sink can take more."""
        blocked = self._parser.blocked
        if blocked is not None and blocked is not self._blocked:
            assert self._transport is not None
            self._transport.pause_reading()
            self._blocked, self._hidden = blocked, True
            blocked.add_done_callback(self._resume)

    def _lend(self, intake: Callable[[int], Intake | None], left: int) -> asyncio.Future[None] | None:
        """Has a thread receive, if one is free. The parser asks, and the loop reads no more once it has the answer."""
        if self._cut_off or self._socket is None or not self._receivers.ready():
            return None
        try:
            borrowed = self._socket.dup()
        except OSError:  # there is no descriptor for it
            return None
        into = loan = None
        try:
            into = intake(left)
            if into is not None:
                self._loan = loan = Loan(borrowed, into)
                loan.over.add_done_callback(self._returned)
                self._receivers.lend(loan)
                return loan.over
        except BaseException:  # of the sink, or a signal's: an intake that is not closed would be waited for
            if loan is None or not loan.lent:
                self._loan = None
                borrowed.close()
                with contextlib.suppress(Exception):  # the sink knows it too
                    if into is not None:
                        into.close()
            raise
        borrowed.close()
        return None

    def _returned(self, over: asyncio.Future[None]) -> None:
        loan, self._loan = self._loan, None
        assert loan is not None
        self._count(loan)
        if self._closed:
            self._keeper.closed(self)
        self._cut_off = loan.cut_off
        over.exception()  # looked at: the request that it would be told to may have ended in this very turn

    def _count(self, loan: Loan) -> None:
        """Takes note of what a thread has received."""
        came = loan.news()
        if came and self.exchange is not None:
            self._heard = True
            self._received += came
            self._parser.brought(came)

    def _resume(self, blocked: asyncio.Future[None]) -> None:
        if blocked is not self._blocked:
            return  # the request has ended meanwhile
        assert self._transport is not None
        self._blocked = None
        self._heard = True
        try:
            blocked.result()
            response = self._parser.unblock()
        except (Exception, asyncio.CancelledError) as error:
            self.fail(error)
            return
        except BaseException as error:
            self._interrupted(error)
            raise
        if self._parser.blocked is not None:
            self._pause()
            return
        self._transport.resume_reading()
        if response is not None:
            self._finish(response)
        elif self._ended or self._lost:
            self._end()

    def _in_good_order(self) -> bool:
        """Whether the end is the server's own: over TLS, a cut without its farewell can be anybody's."""
        try:
            # Behind close_notify there is nothing to read; without it, this raises.
            return self._tls is None or not self._tls.read(1)
        except ssl.SSLError:
            return False

    def _detach(self) -> Exchange | None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection = None
        self._blocked = None
        if self._loan is not None:
            self._loan.recall()
        self._parser.abandon()
        return exchange

    def _leave(self, repeat: Exchange | None) -> None:
        if self.usable:
            self.usable = False
            self._keeper.gone(self, repeat)
