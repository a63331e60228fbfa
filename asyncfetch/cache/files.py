"""Every file operation of the cache, one system call each but for one, so that a crash between any two can be tried.

They raise the operating system's own `OSError`; `failures.explain` says what it means. Callers name them through this
module (`files.rename(...)`), so that a test can stand before or after each.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stamp(NamedTuple):
    """What tells one file under a name from the next one that is renamed over it."""

    inode: int
    modified_ns: int


class Listing(NamedTuple):
    """One name in a directory."""

    name: str
    size: int | None  # bytes; None for what is no plain file
    modified: float  # seconds since 1970


def make_directory(path: str, *, mode: int = 0o777) -> bool:
    """Makes a directory; False when there is one already. The umask takes its part of `mode`."""
    try:
        os.mkdir(path, mode)  # noqa: PTH102 - paths here are text: a Path costs as much as the call itself
    except FileExistsError:
        if os.path.isdir(path):  # noqa: PTH112
            return False
        raise
    return True


def create(path: str, *, readable: bool = False) -> int:
    """Makes a new file and opens it for writing; an existing one is an error. The descriptor is not inherited."""
    return os.open(path, (os.O_RDWR if readable else os.O_WRONLY) | os.O_CREAT | os.O_EXCL, 0o666)


def open_to_update(path: str) -> int:
    """Opens a file that is there for reading and writing. The descriptor is not inherited."""
    return os.open(path, os.O_RDWR)


def write(descriptor: int, data: memoryview) -> None:
    """Appends all of `data`. The system may take less at a time: 2 GiB, or what a signal or a full disk left."""
    while (count := os.write(descriptor, data)) < len(data):
        data = data[count:]


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Writes all of `data` at an offset."""
    while len(data):
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def truncate(descriptor: int) -> None:
    """Empties a file."""
    os.ftruncate(descriptor, 0)


def read_whole(path: str, size: int) -> bytes | None:
    """A file's bytes, if it is there, may be read, and has just so many."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        data = os.read(descriptor, size + 1)  # one more shows a file that is too long
    finally:
        os.close(descriptor)
    return data if len(data) == size else None


def read_at(descriptor: int, room: memoryview, offset: int) -> None:
    """Fills all of `room` from an offset. Raises `OSError` (`EIO`) where the file ends before that."""
    while len(room):
        count = os.preadv(descriptor, [room], offset)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        room, offset = room[count:], offset + count


def close(descriptor: int) -> None:
    """Closes a descriptor."""
    os.close(descriptor)


def rename(source: str, target: str) -> None:
    """Puts a file under another name in one step; what was under that name is gone for those who open it next."""
    os.rename(source, target)  # noqa: PTH104


def link(source: str, target: str) -> None:
    """Gives a file a second name, which must be free."""
    os.link(source, target)


def remove(path: str) -> bool:
    """Takes a file's name away; False when it had none. Whoever has it open keeps its bytes."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return False
    return True


def touch(path: str) -> None:
    """Says that a directory has changed now."""
    os.utime(path)


def remove_directory(path: str) -> bool:
    """Removes an empty directory; False when there is none."""
    try:
        os.rmdir(path)  # noqa: PTH106
    except FileNotFoundError:
        return False
    return True


def remove_tree(path: str) -> None:
    """Removes a directory of one's own with all that is in it, as far as that can be. More than one system call."""
    import shutil  # nobody needs it for a start

    shutil.rmtree(path, ignore_errors=True)


def is_own_directory(path: str) -> bool:
    """True for a directory, not a link to one, that belongs to this user."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def size_of(path: str) -> int | None:
    """The length of a file in bytes, None when there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return None


def exists(path: str) -> bool:
    """Whether there is a file; to hear that there is none costs less than the exception of a look at it."""
    return os.access(path, os.F_OK)


def allocated(path: str) -> int | None:
    """The bytes that a file takes on the disk, without its holes; None when there is none."""
    try:
        return os.stat(path).st_blocks * 512  # noqa: PTH116 - of 512 bytes whatever the file system's are (inode(7))
    except (FileNotFoundError, NotADirectoryError):
        return None


def readable_size(path: str) -> int | None:
    """The length of a file that this user may read, None when there is none such."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, PermissionError):
        return None
    # Most may be read by all, or are one's own: only of the others the system is asked.
    if found.st_mode & stat.S_IROTH or found.st_uid == os.geteuid() or os.access(path, os.R_OK):
        return found.st_size
    return None


def sync(path: str) -> None:
    """Returns when a file's bytes would survive the loss of power; nothing happens when there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync(2) of macOS leaves them in the drive's own memory
        else:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def plain_size_of(path: str) -> int | None:
    """The length of a file in bytes, None when there is none, or something else such as a link under that name."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def stamp_of(path: str) -> Stamp | None:
    """What now lies under a name, None when nothing does."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return Stamp(found.st_ino, found.st_mtime_ns)


def free_bytes(path: str) -> int:
    """What this user may still write on the file system of a path."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def names(path: str) -> list[str]:
    """The names in a directory, in no order; none when there is no directory."""
    try:
        return os.listdir(path)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def sizes(path: str) -> Iterator[tuple[str, int]]:
    """Yields the files of a directory with their lengths, passing over what others remove meanwhile."""
    try:
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue


def listing(path: str) -> Iterator[Listing]:
    """Yields all that lies in a directory, passing over what others remove meanwhile."""
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Listing(entry.name, found.st_size if stat.S_ISREG(found.st_mode) else None, found.st_mtime)


def open_to_read(path: str) -> int:
    """Opens a file for reading. The descriptor is not inherited."""
    return os.open(path, os.O_RDONLY)


def read_some(descriptor: int, room: memoryview) -> int:
    """Fills `room` from where the last read ended, or less of it; 0 at the end."""
    return os.readv(descriptor, [room])


def read(path: str, limit: int) -> bytes | None:
    """The first `limit` bytes of a small file, None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def lock(path: str, *, create: bool = False) -> int | None:
    """Opens a file and locks it by flock for as long as the descriptor lives; None when another holds it.

    Raises `FileNotFoundError` when there is no such file, also when it lost its name before the lock was had: such a
    lock would guard nothing.
    """
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH116
            raise FileNotFoundError(path)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
