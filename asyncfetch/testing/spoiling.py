"""Answers as bytes on the wire, and what each fault makes of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asyncfetch.testing.faults import Fault
from asyncfetch.testing.scripted import Ending, Pause
from asyncfetch.testing.shelf import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asyncfetch.testing.faults import Faults
    from asyncfetch.testing.scripted import Answer, Step
    from asyncfetch.testing.shelf import Reply

Headers = tuple[tuple[str, str], ...]

_TOGETHER = 64 << 10  # bytes; a body up to here goes out with its head, which saves a call of the system

REFUSED_WITH: Final = {
    Fault.ERROR: (500, "InternalError"),
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.LIMITED: (503, "SlowDown"),
    Fault.REFUSE_SIGNATURE: (403, "SignatureDoesNotMatch"),
    Fault.EXPIRE_TOKEN: (400, "ExpiredToken"),
}
_OF_BODIES: Final = frozenset({Fault.DRIP, Fault.STALL, Fault.TRUNCATE, Fault.OVERSTATE})
# In a listing nothing would show them, and no client could be right.
_OF_OBJECTS: Final = frozenset({Fault.FLIP, Fault.UNDERSTATE, Fault.REPLACE})


def fits(fault: Fault, reply: Reply) -> bool:
    """Whether an answer can have a fault."""
    if fault in _OF_OBJECTS:
        return bool(reply.body) and reply.has_object
    return bool(reply.body) or fault not in _OF_BODIES


def spoiled(reply: Reply, fault: Fault | None, always: Headers, *, at: float, faults: Faults, head: bool) -> Answer:
    """An answer with its fault, ready to be sent. `at`, from 0 to before 1, is the place in the body.

    `head` says that it is the answer to a HEAD.
    """
    if fault in REFUSED_WITH:
        reply = refusal(*REFUSED_WITH[fault])
        return written(reply._replace(body=b"") if head else reply, always)
    length, body = reply.length, reply.body
    place = int(at * len(body))
    if fault is Fault.FLIP:
        body = b"%b%c%b" % (body[:place], body[place] ^ (1 << int(at * 8)), body[place + 1 :])
    elif fault is Fault.UNDERSTATE:
        length -= 1
    elif fault is Fault.OVERSTATE:
        length += 1 + place
    if fault in (None, Fault.FLIP, Fault.REPLACE, Fault.UNDERSTATE):
        return written(reply._replace(body=body, length=length), always)
    return _steps(written(reply._replace(body=b"", length=length), always), body, place, fault, faults)


def written(reply: Reply, always: Headers) -> Answer:
    """An answer as it is meant."""
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for pairs in (always, reply.headers) for name, value in pairs]
    if reply.status != HTTPStatus.NOT_MODIFIED:
        lines.append(f"Content-Length: {reply.length}")
    start = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    return start + reply.body if len(reply.body) <= _TOGETHER else (start, reply.body)


def _steps(head: Answer, body: bytes, place: int, fault: Fault | None, faults: Faults) -> Iterator[Step]:
    start: Iterable[Step] = [head] if isinstance(head, bytes) else head
    if fault is Fault.SLOW:
        yield Pause(faults.slow_seconds)
    if fault is Fault.RESET and not body:
        yield Ending.RESET
    yield from start
    if fault is Fault.DRIP:
        for begin in range(0, len(body), faults.drip_bytes):
            yield body[begin : begin + faults.drip_bytes]
            yield Pause(faults.drip_seconds)
    elif fault is Fault.STALL:
        yield body[:place]
        yield Pause(faults.stall_seconds)
        yield body[place:]
    elif fault in (Fault.RESET, Fault.TRUNCATE):
        yield body[:place]
        yield Ending.RESET if fault is Fault.RESET else Ending.CLOSE
    else:
        yield body
        if fault is Fault.OVERSTATE:
            yield Ending.CLOSE
