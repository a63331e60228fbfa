"""Checking a store: every digest against the bytes that lie under it, and every reference against what is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from asyncfetch.datastore.digests import measure
from asyncfetch.datastore.layout import read_data_key
from asyncfetch.datastore.marking import Unclear, needed
from asyncfetch.datastore.threads import on_thread
from asyncfetch.errors import AsyncfetchError, ObjectNotFound
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from asyncfetch.datastore.storage import Storage
    from asyncfetch.objects import ObjectStat

Fault = Literal["damaged", "unreadable", "missing", "document", "stranger"]


class Finding(NamedTuple):
    """Something that is not right: `fault` says what, `uri` where, `detail` in words.

    `"damaged"`: bytes that do not have the digest they lie under; `"unreadable"`: data that cannot be read;
    `"missing"`: data that something refers to and that is not there, or not in its size; `"document"`: a manifest, a
    record or a description of a directory that says nothing; `"stranger"`: an object among the data that is none.
    """

    fault: Fault
    uri: str
    detail: str


@dataclass(slots=True)
class Verified:
    """What checking a store came to. `referenced` counts references, `bytes` those that were hashed."""

    objects: int = 0
    bytes: int = 0
    referenced: int = 0
    findings: list[Finding] = field(default_factory=list)


async def verify(storage: Storage, *, quick: bool, seen: Callable[[int], object]) -> Verified:
    """Checks a store; see `DataStore.verify`."""
    result = Verified()
    sizes: dict[tuple[str, str], int] = {}

    async def data() -> AsyncIterator[tuple[ObjectStat, str]]:
        async for key, stat in storage.list(storage.data):
            told = read_data_key(key.removeprefix(storage.data))
            if told is None:
                result.findings.append(Finding("stranger", stat.uri, "it is no part of a store"))
            elif told.extension is not None:
                sizes[told.digest, told.extension] = stat.size
                result.objects += 1
                yield stat, told.digest

    if quick:
        async for _ in data():
            seen(0)
    else:
        # Not by way of the cache: it is the store's bytes that are looked at.
        async with storage.fetcher.entries(data(), cache=False, order="completion", on_error="yield") as stream:
            async for item in stream:
                if isinstance(item, Failure):
                    if not isinstance(item.exception, ObjectNotFound):  # else it was removed meanwhile
                        result.findings.append(Finding("unreadable", item.uri, str(item.exception)))
                    continue
                try:
                    measured = await on_thread(measure, item.filename)
                except FileNotFoundError:  # likewise
                    continue
                result.bytes += measured.size
                seen(measured.size)
                if measured.digest != item.payload:
                    result.findings.append(Finding("damaged", item.uri, f"its bytes have the digest {measured.digest}"))
    await _check_references(storage, sizes, result)
    return result


async def _check_references(storage: Storage, sizes: dict[tuple[str, str], int], result: Verified) -> None:
    async for item in needed(storage):
        if isinstance(item, Unclear):
            result.findings.append(Finding("document", storage.uri(item.by), _said(item.error)))
            continue
        result.referenced += 1
        reference = item.reference
        there = sizes.get((reference.digest, reference.extension))
        if there is None:  # unless it came while the rest was looked at
            there = (await storage.folder(reference.digest)).data.get(reference.extension)
        if there != reference.size:
            what = "is gone" if there is None else f"has {there:,} bytes instead of {reference.size:,}"
            detail = f"its data {storage.uri(storage.data_key(reference))} {what}"
            result.findings.append(Finding("missing", storage.uri(item.by), detail))


def _said(error: AsyncfetchError) -> str:
    return error.message
