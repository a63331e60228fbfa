"""Files of this machine as an origin: read in place, in threads, never waiting for what is no file."""

from __future__ import annotations

import errno
import os
import stat as modes
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    InvalidURI,
    ObjectNotFound,
    PreconditionFailed,
    RequestRefused,
    ServerError,
    TransferInterrupted,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins.base import ByteRange, Sink, deliver, introduce
from asyncfetch.origins.headers import check_range, clip_range
from asyncfetch.uris import Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

_PIECE = 1 << 20  # bytes for one hop to a thread: the hop costs 80 us, copying so much about 100
_BATCH = 1000  # entries listed in one hop, as many as S3 puts on a page

_KINDS = (
    (modes.S_ISFIFO, "a named pipe"),
    (modes.S_ISSOCK, "a socket"),
    (modes.S_ISCHR, "a character device"),
    (modes.S_ISBLK, "a block device"),
)
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class FileOrigin:
    """The Origin protocol for `file` locations.

    Symbolic links are followed. A file's ETag is made of its inode, its time of change in nanoseconds and its size; a
    file that changes while it is read raises `TransferInterrupted`. Directories, pipes, sockets and devices are refused
    by name and never opened. No file stays open between two awaits, and a thread that hangs in a file system is left
    alone, so that cancelling is prompt and leaves nothing behind.
    """

    requests = 0  # there is nobody to ask

    async def stat(self, location: Location) -> ObjectStat:
        """Looks at a file. Raises `ObjectNotFound`, `AccessDenied`, and `RequestRefused` for what is no file."""
        return await to_thread.run_sync(_look, location, abandon_on_cancel=True)

    async def read(
        self,
        location: Location,
        sink: Sink,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectStat | NotModified:
        """Puts a file, or a range of it, into a sink; see `Origin.read`."""
        if range is not None:
            check_range(range)
        stat = await to_thread.run_sync(_look, location, abandon_on_cancel=True)
        if if_match is not None and stat.etag != if_match:
            raise PreconditionFailed(stat.uri, "the file has changed")
        if if_none_match is not None and stat.etag == if_none_match:
            return NotModified(stat.uri)
        at, stop = clip_range(range, stat.size, stat.uri)
        sink = introduce(sink, stat, at)
        while at < stop:
            size = min(_PIECE, stop - at)
            chunk = await to_thread.run_sync(_read_piece, location, stat, at, size, abandon_on_cancel=True)
            await deliver(chunk, sink, stop - at)
            at += len(chunk)
        return stat

    async def list(
        self, prefix: Location, *, recursive: bool = True, start_after: str | None = None
    ) -> AsyncIterator[ObjectStat]:
        """Yields the files in a directory, or those whose path begins with a prefix that names none.

        They come in the order of the bytes of their paths, and `start_after` is a path. A symbolic link to a directory
        is walked, except one that leads back to where the walk came from; what is neither file nor directory is left
        out. Raises `ObjectNotFound` when the directory, or what a link points to, does not exist, and `AccessDenied`
        for what cannot be read; what comes before that in the order is yielded first.
        """
        walk = _walk(prefix, os.fsencode(start_after or ""), recursive=recursive)
        more = True
        while more:
            batch: list[ObjectStat] = []
            failure: AsyncfetchError | None = None
            try:
                more = await to_thread.run_sync(_take, walk, batch, abandon_on_cancel=True)
            except AsyncfetchError as error:
                failure = error
            for stat in batch:
                yield stat
            if failure is not None:
                raise failure

    async def aclose(self) -> None:
        """Nothing is held open between calls."""


def stat_files(locations: Sequence[Location]) -> Sequence[ObjectStat | AsyncfetchError]:
    """Looks at many files, for a caller that is in a thread already.

    Gives for each its stat, or the error that `FileOrigin.stat` would raise.
    """
    return [_stat_or_error(location) for location in locations]


def _stat_or_error(location: Location) -> ObjectStat | AsyncfetchError:
    try:
        return _look(location)
    except AsyncfetchError as error:
        return error


def _look(location: Location) -> ObjectStat:
    try:
        found = _stat(location.key)
    except OSError as error:
        raise _refusal(str(location), error) from error
    except ValueError as error:  # NUL, or text that is no file name in this locale
        raise InvalidURI(ascii(location.key), "it cannot be a path") from error
    return _describe(str(location), found)


def _describe(uri: str, found: os.stat_result) -> ObjectStat:
    if modes.S_ISDIR(found.st_mode):
        raise RequestRefused(uri, "it is a directory", remedy="List it for the files in it.")
    if not modes.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no regular file")
        raise RequestRefused(uri, f"it is {kind}", remedy="Only regular files can be read.")
    return ObjectStat(
        uri,
        found.st_size,
        etag=f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}",
        last_modified=datetime.fromtimestamp(found.st_mtime, UTC),
    )


def _read_piece(location: Location, first: ObjectStat, offset: int, size: int) -> bytes:
    """Reads a piece, and looks afterwards whether this is still the very file that was looked at first."""
    try:
        # Between the look and this a pipe may have taken the file's place: O_NONBLOCK lets the open return.
        descriptor = os.open(location.key, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _describe(first.uri, os.fstat(descriptor))  # refuses what is no file any more
            chunk = os.pread(descriptor, size, offset)
            changed = _describe(first.uri, os.fstat(descriptor)).etag != first.etag
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(first.uri, error) from error
    if changed or not chunk:
        raise TransferInterrupted(first.uri, "the file changed while it was read")
    return chunk


class _Level(NamedTuple):
    """A directory on the way of a walk: its path with a `/` at the end, its identity, and the names still to come."""

    path: str
    identity: tuple[int, int]
    names: Iterator[str]


def _take(walk: Iterator[ObjectStat], batch: list[ObjectStat]) -> bool:
    """Moves a batch out of a walk, one by one so that what came before an error is kept. False at the end."""
    for stat in islice(walk, _BATCH):
        batch.append(stat)
    return len(batch) == _BATCH


def _walk(prefix: Location, after: bytes, *, recursive: bool) -> Iterator[ObjectStat]:
    way = [_enter(*_split(prefix))]  # kept here and not on Python's stack, which a deep tree would exhaust
    while way:
        level = way[-1]
        name = next(level.names, None)
        if name is None:
            way.pop()
            continue
        path = level.path + name
        if after and not _comes_after(path, after, enter=recursive):
            continue
        if not path.endswith("/"):
            yield from _file_only(path)
        elif not recursive:
            yield ObjectStat(str(Location("file", "", path)), 0)
        else:
            below = _enter(path, "")
            if all(below.identity != level.identity for level in way):
                way.append(below)


def _comes_after(path: str, after: bytes, *, enter: bool) -> bool:
    """Whether a path, or something in the directory that it names and that is entered, comes after another."""
    mark = os.fsencode(path)
    return mark > after or (enter and mark.endswith(b"/") and after.startswith(mark))


def _split(prefix: Location) -> tuple[str, str]:
    """The directory to walk, and what its entries must begin with."""
    try:
        if modes.S_ISDIR(_stat(prefix.key).st_mode):
            return prefix.key.rstrip("/") + "/", ""
    except OSError as error:
        if error.errno not in _MISSING:
            raise _refusal(str(prefix), error) from error
    except ValueError as error:
        raise InvalidURI(ascii(prefix.key), "it cannot be a path") from error
    directory, slash, stem = prefix.key.rpartition("/")
    return directory + slash, stem


def _enter(directory: str, stem: str) -> _Level:
    try:
        found = _stat(directory)
        with os.scandir(directory) as entries:
            # A directory sorts as the files in it will: with its slash.
            names = [entry.name + "/" * _is_directory(entry) for entry in entries if entry.name.startswith(stem)]
    except OSError as error:
        raise _refusal(str(Location("file", "", directory)), error) from error
    return _Level(directory, (found.st_dev, found.st_ino), iter(sorted(names, key=os.fsencode)))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, say: the look at it will tell, and name it
        return False


def _file_only(path: str) -> Iterator[ObjectStat]:
    uri = str(Location("file", "", path))
    try:
        found = _stat(path)
    except OSError as error:
        raise _refusal(uri, error) from error
    if modes.S_ISREG(found.st_mode):
        yield _describe(uri, found)


def _stat(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 (a Path drops the slash at the end that asks for a directory)


def _refusal(uri: str, error: OSError) -> AsyncfetchError:
    reason = error.strerror or type(error).__name__
    if error.errno in _MISSING:
        return ObjectNotFound(uri, f"there is no such file ({reason})")
    if error.errno in _DENIED:
        return AccessDenied(uri, f"this user may not read it ({reason})")
    if error.errno in _PASSING:
        return ServerError(uri, f"the file system failed ({reason})")
    return RequestRefused(uri, f"it cannot be read ({reason})")
