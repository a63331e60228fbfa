"""Reading all blobs of a cache on all cores: what lies there, and whether its bytes are those of its name."""

from __future__ import annotations

import os
import re
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, get_args

from asyncfetch.cache import digests, files
from asyncfetch.settings import MIB, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

ALGORITHMS: tuple[Digest, ...] = get_args(Digest)

_SHARD = re.compile(r"[0-9a-f]{2}\Z")
_NAME = re.compile(r"[0-9a-f]{64}\Z")  # both algorithms give 256 bits
_PIECE = MIB


class ReadBlob(NamedTuple):
    """A blob that was read, and what is wrong with it ("" for nothing)."""

    digest: str  # what its name says
    size: int  # bytes
    modified: float  # seconds since 1970
    fault: str


class Lying(NamedTuple):
    """A blob in its place, not read."""

    digest: str  # what its name says
    modified: float  # seconds since 1970: when it was written


class Strange(NamedTuple):
    """What should not lie where blobs lie."""

    path: str
    fault: str


class ShardDone(NamedTuple):
    """All blobs of these digests have been told."""

    algorithm: Digest
    shard: str


Reading = ReadBlob | Strange | ShardDone


def read_blobs(root: str, threads: int) -> Iterator[Reading]:
    """Reads all blobs below a directory, in the order in which threads come to them, one shard a thread at a time.

    What is removed meanwhile is passed over. Every shard is told as done, those without a blob too. Raises `OSError`
    where a directory cannot be read. Closing the iterator ends the threads after a mebibyte each.
    """
    work: SimpleQueue[ShardDone] = SimpleQueue()
    told: SimpleQueue[Reading | OSError | None] = SimpleQueue()
    for algorithm in ALGORITHMS:
        for shard in range(256):
            work.put(ShardDone(algorithm, f"{shard:02x}"))
    yield from _strangers(root)
    stop = threading.Event()
    readers = [
        threading.Thread(target=_serve, args=(root, work, told, stop), name="asyncfetch-check", daemon=True)
        for _ in range(threads)
    ]
    try:
        for reader in readers:
            reader.start()
        running = threads
        while running:
            item = told.get()
            if item is None:
                running -= 1
            elif isinstance(item, OSError):
                raise item
            else:
                yield item
    finally:
        stop.set()
        for reader in readers:
            if reader.ident is not None:
                reader.join()


def list_blobs(root: str) -> Iterator[list[Lying]]:
    """Lists all blobs below a directory, a shard at a time. Raises `OSError` where a directory cannot be read."""
    for algorithm in ALGORITHMS:
        for shard in range(256):
            try:
                yield [
                    Lying(f"{algorithm}:{found.name}", found.modified)
                    for found in files.listing(f"{root}/{algorithm}/{shard:02x}")
                    if _NAME.match(found.name) and found.size is not None
                ]
            except (FileNotFoundError, NotADirectoryError):
                continue


def _strangers(root: str) -> Iterator[Strange]:
    for name in files.names(root):
        path = f"{root}/{name}"
        if name not in ALGORITHMS:
            yield Strange(path, "is no algorithm's directory")
            continue
        for shard in files.names(path):
            if not _SHARD.match(shard) or not os.path.isdir(f"{path}/{shard}"):  # noqa: PTH112
                yield Strange(f"{path}/{shard}", "is not the directory of a shard")


def _serve(
    root: str,
    work: SimpleQueue[ShardDone],
    told: SimpleQueue[Reading | OSError | None],
    stop: threading.Event,
) -> None:
    room = memoryview(bytearray(_PIECE))
    try:
        while not stop.is_set():
            shard = work.get_nowait()
            for item in _read_shard(root, shard, room, stop):
                told.put(item)
            told.put(shard)
    except Empty:
        pass
    except OSError as error:
        told.put(error)
    finally:
        told.put(None)


def _read_shard(root: str, shard: ShardDone, room: memoryview, stop: threading.Event) -> Iterator[ReadBlob | Strange]:
    directory = f"{root}/{shard.algorithm}/{shard.shard}"
    try:
        listed = list(files.listing(directory))
    except (FileNotFoundError, NotADirectoryError):  # the latter is told as a stranger
        return
    for found in listed:
        path = f"{directory}/{found.name}"
        if not _NAME.match(found.name) or not found.name.startswith(shard.shard):
            yield Strange(path, "has no name of a blob of this directory")
        elif found.size is None:
            yield Strange(path, "is no plain file")
        else:
            read = _read(path, shard.algorithm, found, room, stop)
            if stop.is_set():
                return
            if read is not None:
                yield read


def _read(
    path: str, algorithm: Digest, found: files.Listing, room: memoryview, stop: threading.Event
) -> ReadBlob | None:
    digest = f"{algorithm}:{found.name}"
    hasher = digests.new(algorithm)
    size = 0
    try:
        descriptor = files.open_to_read(path)
        try:
            while (count := files.read_some(descriptor, room)) and not stop.is_set():
                hasher.update(room[:count])
                size += count
        finally:
            files.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        return ReadBlob(digest, found.size or 0, found.modified, f"cannot be read: {error.strerror}")
    fault = "" if hasher.hexdigest() == found.name else f"holds other bytes, {algorithm}:{hasher.hexdigest()}"
    return ReadBlob(digest, size, found.modified, fault)
