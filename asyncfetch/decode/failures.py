"""The exceptions for what went wrong with one image: by a worker's word, or by its death."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch.errors import (
    AccessDenied,
    CorruptImage,
    DecodeError,
    DecodeTimeout,
    EmptyObject,
    ImageTooLarge,
    ObjectNotFound,
    OutOfMemory,
    TransformFailed,
    UnsupportedFormat,
    WorkerDied,
)

if TYPE_CHECKING:
    from asyncfetch.decode.jobs import DecodeJob
    from asyncfetch.errors import ObjectError

_ERRORS: dict[str, type[ObjectError]] = {
    "empty": EmptyObject,
    "unsupported": UnsupportedFormat,
    "oversized": ImageTooLarge,
    "corrupt": CorruptImage,
    "missing": ObjectNotFound,
    "denied": AccessDenied,
    "memory": OutOfMemory,
    "transform": TransformFailed,
    "failed": DecodeError,
}


def failure(uri: str, word: str, detail: str) -> ObjectError:
    """What a worker said, see `wire`."""
    return _ERRORS.get(word, DecodeError)(uri, str(detail))


def death(uri: str, fate: str, *, late: bool, at: str) -> DecodeError:
    """The end of a worker that was `at` something of an object. `late` says that it was ended for the time it took."""
    what = f"the decode worker that was at {at} {fate}"
    if late:
        return DecodeTimeout(uri, what)
    return WorkerDied(uri, what, remedy="The kernel does that when memory runs out." if "SIGKILL" in fate else "")


def insatiable(job: DecodeJob) -> ObjectError:
    """What has been given all the room that it asked for, time and again, and asks for more."""
    more = f"of {job.asked} times, and has no end: the last time it needed {job.need >> 20} MiB"
    if job.transforms:
        name = "mapped function" if job.maps else "transform"
        remedy = "It must give as much each time it is called for an item: with another room it is called again."
        return TransformFailed(job.uri, f"what its {name} gave was larger each {more}", remedy=remedy)
    return DecodeError(job.uri, f"it wanted more room each {more}")
