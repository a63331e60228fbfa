"""How a cache is opened: as it lies there, as one that goes when it is closed, or over one that is only read."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.cache.below import Below, is_meant, reopen
from asyncfetch.cache.blobs import Blobs
from asyncfetch.cache.boot import boot_id
from asyncfetch.cache.directory import prepare
from asyncfetch.cache.failures import explain
from asyncfetch.cache.generations import lying
from asyncfetch.cache.index import Index
from asyncfetch.cache.layers import LayeredBlobs, LayeredIndex
from asyncfetch.cache.owner import Owner
from asyncfetch.cache.partials import Partials
from asyncfetch.cache.proofs import Proofs
from asyncfetch.cache.recovery import mend
from asyncfetch.cache.scratch import make_scratch
from asyncfetch.errors import CacheUnusable, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.errors import AsyncfetchError
    from asyncfetch.settings import CachePolicy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an open cache works with. `at_end` is to be called when all else is closed."""

    owner: Owner
    index: Index
    blobs: Blobs
    proofs: Proofs
    partials: Partials
    read_only: bool  # what the policy names is; what is written goes elsewhere
    lasting: bool  # what is written outlives this cache, and the boot
    at_hand: bool  # all of it lies in memory: nothing here ever waits for a disk
    at_end: Callable[[], None]


def open_parts(policy: CachePolicy, job_started: float | None) -> Parts:
    """Opens the cache that a policy names. Raises `CacheUnusable` or `StorageFull`; then nothing is left open."""
    if policy.ephemeral:
        return _open_over(policy, job_started, None)
    found = open_there(
        policy,
        job_started,
        told=lambda why: _log.warning("%s: it is only read; what is not there is kept as long as it is open", why),
    )
    return _open_over(policy, job_started, found) if isinstance(found, Below) else found


def open_there(
    policy: CachePolicy, job_started: float | None, *, told: Callable[[str], object] = lambda why: None
) -> Parts | Below:
    """Opens the cache that lies where a policy says, or only to be read, for which `told` hears of the reason.

    Raises as `open_parts`.
    """
    directory = policy.directory
    if policy.read_only:
        return Below(directory, policy.digest)
    try:
        return _open(policy, job_started, directory, contextlib.ExitStack(), lasting=True)
    except CacheUnusable as error:
        if not is_meant(directory, error):
            raise
        try:
            below = Below(directory, policy.digest)
        except CacheUnusable:
            raise error from None
        told(error.message)
        return below


def _open_over(policy: CachePolicy, job_started: float | None, below: Below | None) -> Parts:
    """Opens a cache that goes when it is closed, alone or over one that is only read."""
    with contextlib.ExitStack() as held:
        if below is not None:
            held.callback(below.close)
        scratch = make_scratch(policy.cache_dir if policy.ephemeral else None)
        held.callback(scratch.close)
        return _open(policy, job_started, Path(scratch.path), held, below=below)


def _open(
    policy: CachePolicy,
    job_started: float | None,
    directory: Path,
    held: contextlib.ExitStack,
    *,
    below: Below | None = None,
    lasting: bool = False,
) -> Parts:
    layout = prepare(directory)
    try:
        owner = Owner(layout.tmp, job_started=job_started)
    except OSError as error:
        raise explain(error, layout.tmp) from error
    boot = boot_id()
    partials = Partials(layout.partial, owner, boot)
    try:
        old = lying(layout.index)
        alone = owner.sweep(partials.rescue)
        partials.sweep()
        reopen(layout.index)
        ways = layout.index, policy.digest, owner.new_path
        index = Index(*ways, boot=boot) if below is None else LayeredIndex(below, *ways, boot=boot)
    except BaseException as error:
        owner.close()
        if isinstance(error, OSError | sqlite3.Error | ValueError):
            raise _no_index(error, layout.index) from error
        raise
    if alone:
        index.remove_others(old)
    proofs = Proofs(policy.verify, index)
    blobs = Blobs(layout.blobs, owner, proofs)
    if below is not None:
        blobs = LayeredBlobs(below, layout.blobs, owner, proofs)
    mend(index, blobs, partials, owner)
    lasting = lasting and not layout.volatile
    return Parts(
        owner,
        index,
        blobs,
        proofs,
        partials,
        read_only=below is not None,
        lasting=lasting,
        at_hand=layout.volatile and below is None,
        at_end=held.pop_all().close,
    )


def _no_index(error: Exception, path: str) -> AsyncfetchError:
    """What to raise when no index could be begun."""
    if isinstance(error, OSError):
        return explain(error, path)
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: {error}")
    return CacheUnusable(f"{path}: the index could not be begun: {error}", remedy="Point cache_dir at another disk.")
