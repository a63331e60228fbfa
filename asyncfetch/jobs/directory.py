"""The directory that a job fills: whole files only, never over a stranger's, never outside of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import sys
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from asyncfetch.cache import digest_file
from asyncfetch.errors import AsyncfetchError, UsageError
from asyncfetch.jobs.layout import STATE, apart

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

Way = Literal["auto", "link", "copy"]

_FICLONE = 0x40049409  # linux/fs.h: the whole of another file, shared until one of them is written
_OPEN_FOLDERS = 128  # kept open: a listing comes folder by folder
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG = 250  # bytes; a name has at most 255
_NOT_HERE = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY}


class DirectoryBusy(AsyncfetchError):
    """Raised when another job is at work in the directory."""

    hint = "Wait for it, or choose another directory."


class Placed(NamedTuple):
    """A file in its place: where, how long, and what shows that nobody has written it since."""

    path: str  # relative to the directory
    size: int
    stamp: int  # modification time in ns since 1970


class Source(NamedTuple):
    """A file to put in place. `descriptor` is open on it, so that its bytes are there whatever becomes of the name."""

    filename: str
    descriptor: int
    digest: str
    shared: bool  # may be linked: it is the cache's, which writes no file twice


class Directory:
    """A directory, and the only job that works in it. A context manager; blocks; used by one thread at a time.

    `way` `"auto"` shares the bytes with the cache where the file system can (a reflink), else gives the cache's file
    another name (a hard link), else copies; `"link"` and `"copy"` do only that. A file that is linked is made read
    only: who writes it would write the cache.

    Raises `DirectoryBusy` while another job works in it, and `OSError` when it cannot be written.
    """

    def __init__(self, root: str | os.PathLike[str], way: Way = "auto") -> None:
        if way not in get_args(Way):
            raise UsageError(f"--place must be one of {', '.join(get_args(Way))}, not {way!r}")
        self.root = Path(root)
        self._way = way
        self._clones = way == "auto" and sys.platform == "linux"
        self._links = way != "copy"
        self._folders: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> Self:
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.root))
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except OSError as error:
            if error.filename in (STATE, "lock"):  # opened below a descriptor
                error.filename = str(self.root / STATE)
            raise
        return self

    def _open(self) -> None:
        with contextlib.ExitStack() as opened:
            self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._root)
            with contextlib.suppress(FileExistsError):
                os.mkdir(STATE, dir_fd=self._root)
            self._state = os.open(STATE, _FOLDER, dir_fd=self._root)
            opened.callback(os.close, self._state)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open("lock", flags, 0o666, dir_fd=self._state)
            opened.callback(os.close, self._lock)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DirectoryBusy(f"{self.root}: another download is at work here") from None
            for name in os.listdir(self._state):  # noqa: PTH208 - by descriptor
                if name.endswith(".part"):  # of a run that was killed
                    os.unlink(name, dir_fd=self._state)
            opened.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for descriptor in [*self._folders.values(), self._lock, self._state, self._root]:
            os.close(descriptor)
        self._folders.clear()

    def place(self, source: Source, path: str, uri: str, *, own: bool) -> Placed:
        """Puts a file at a path that a `Layout` made, whole or not at all.

        With `own` what lies there is a file that this job wrote, and is replaced. Else what lies there stays: if it has
        the same bytes it is taken for the file, if not the file is put `apart`. Raises `OSError`, and
        `FileExistsError` when something else lies there too.
        """
        if own:
            return self._put(source, path, over=True)
        placed = self._put_or_find(source, path) or self._put_or_find(source, apart(path, uri))
        if placed is None:
            raise FileExistsError(errno.EEXIST, "something else lies there", str(self.root / path))
        return placed

    def look(self, path: str) -> Placed | None:
        """What lies at a path now, None when it is no plain file or is reached through a link."""
        try:
            folder, name = self._folder(path, make=False)
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None
        return Placed(path, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def digest(self, path: str, like: str) -> str | None:
        """The digest of a file, by the algorithm of another; None when it cannot be read."""
        try:
            return digest_file(str(self.root / path), "sha256" if like.startswith("sha256:") else "blake3")
        except OSError:
            return None

    def remove(self, path: str) -> None:
        """Removes a file, and the folders that are empty then. Raises `OSError`."""
        folder, name = self._folder(path, make=False)
        os.unlink(name, dir_fd=folder)
        parts = path.split("/")[:-1]
        while parts:
            known = self._folders.pop("/".join(parts), None)
            if known is not None:
                os.close(known)
            above, last = self._folder("/".join(parts), make=False)
            try:
                os.rmdir(last, dir_fd=above)
            except OSError:
                return
            parts.pop()

    def _put_or_find(self, source: Source, path: str) -> Placed | None:
        """Puts a file at a path where nothing lies, or the same bytes do. None where something else does."""
        try:
            return self._put(source, path, over=False)
        except (FileExistsError, IsADirectoryError):
            found = self.look(path)
            return found if found is not None and self.digest(path, source.digest) == source.digest else None

    def _put(self, source: Source, path: str, *, over: bool) -> Placed:
        path, folder, name = self._home(path)
        found = None
        if self._clones:
            found = self._through_part(source, folder, name, self._clone, over=over)
        if found is None and self._links and source.shared:
            found = self._link(source, folder, name, over=over)
        if found is None:
            if self._way == "link":
                raise OSError(errno.EXDEV, "it cannot be linked from the cache", str(self.root / path))
            found = self._through_part(source, folder, name, _copy, over=over)
        assert found is not None
        return Placed(path, found.st_size, found.st_mtime_ns)

    def _through_part(
        self, source: Source, folder: int, name: str, fill: Callable[[Source, int], bool], *, over: bool
    ) -> os.stat_result | None:
        """Makes a new file beside, and puts it in its place when it is whole. None when it cannot be filled so."""
        part = f"{uuid.uuid4().hex}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=self._state)
        try:
            if not fill(source, descriptor):
                return None
            found = os.fstat(descriptor)
            self._publish(part, folder, name, over=over)
            return found
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=self._state)

    def _publish(self, part: str, folder: int, name: str, *, over: bool) -> None:
        if over:
            os.rename(part, name, src_dir_fd=self._state, dst_dir_fd=folder)
        else:
            os.link(part, name, src_dir_fd=self._state, dst_dir_fd=folder)

    def _clone(self, source: Source, descriptor: int) -> bool:
        try:
            fcntl.ioctl(descriptor, _FICLONE, source.descriptor)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            self._clones = False
            return False
        return True

    def _link(self, source: Source, folder: int, name: str, *, over: bool) -> os.stat_result | None:
        """Gives the cache's file a second name. None when it cannot have one here."""
        try:
            found = os.fstat(source.descriptor)
            if found.st_mode & 0o222:
                os.fchmod(source.descriptor, found.st_mode & 0o555)
            if over:
                part = f"{uuid.uuid4().hex}.part"
                os.link(source.filename, part, dst_dir_fd=self._state)
                os.rename(part, name, src_dir_fd=self._state, dst_dir_fd=folder)
                with contextlib.suppress(FileNotFoundError):  # a rename to another name of the same file does nothing
                    os.unlink(part, dir_fd=self._state)
            else:
                os.link(source.filename, name, dst_dir_fd=folder)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EOPNOTSUPP):
                self._links = False
            # ENOENT: it has left the cache since, but is still open
            if error.errno in _NOT_HERE or error.errno == errno.ENOENT:
                return None
            raise
        return found

    def _home(self, path: str) -> tuple[str, int, str]:
        """The path as it can be here, its folder, which is made, and its name in that."""
        with contextlib.suppress(OSError):
            return path, *self._folder(path, make=True)
        *parts, name = path.split("/")
        for end in range(1, len(parts) + 1):
            while True:
                try:
                    self._folder("/".join([*parts[:end], name]), make=True)
                    break
                except OSError as error:
                    # A file, or a link to somewhere else, has the name that a folder needs.
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP) or len(parts[end - 1]) > _LONG:
                        raise
                    parts[end - 1] += "~"
        path = "/".join([*parts, name])
        folder, name = self._folder(path, make=True)
        return path, folder, name

    def _folder(self, path: str, *, make: bool) -> tuple[int, str]:
        """The open folder of a path, and the name in it. No link is followed on the way."""
        at, _, name = path.rpartition("/")
        if not at:
            return self._root, name
        known = self._folders.get(at)
        if known is not None:
            self._folders.move_to_end(at)
            return known, name
        above, last = self._folder(at, make=make)
        try:
            folder = os.open(last, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(last, dir_fd=above)
            folder = os.open(last, _FOLDER, dir_fd=above)
        self._folders[at] = folder
        if len(self._folders) > _OPEN_FOLDERS:
            os.close(self._folders.popitem(last=False)[1])
        return folder, name


def _copy(source: Source, descriptor: int) -> bool:
    with (
        open(source.descriptor, "rb", buffering=0, closefd=False) as original,
        open(descriptor, "wb", closefd=False) as file,  # unbuffered, a full disk would write less and say nothing
    ):
        original.seek(0)
        shutil.copyfileobj(original, file, 1 << 20)
    return True
