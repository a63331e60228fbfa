"""Where a store writes: a bucket, by the control plane, or a directory of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from asyncfetch.datastore.digests import HashingFile, measure
from asyncfetch.datastore.errors import SourceChanged
from asyncfetch.datastore.threads import on_thread
from asyncfetch.errors import PreconditionFailed
from asyncfetch.origins.control import Control
from asyncfetch.uris import Location, s3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncfetch.errors import OriginError
    from asyncfetch.fetcher import Fetcher

_PARTIAL = ".partial"  # of a directory: what is being written lies here, beside all that is listed
_KNOWN = 600.0  # seconds for which an answer to what time it is will do; `keeping.FRESH` is six times as long
_ATTEMPTS = 100  # to make a folder that is empty, and so may be removed until something is in it
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class Place(Protocol):
    """Where a store writes. Keys are relative to its root."""

    def at(self, key: str) -> Location:
        """Where an object lies, or begins to."""
        ...

    async def put(self, key: str, body: bytes | Path, *, only_new: bool, digest: str | None = None) -> bool:
        """Writes an object whole, from bytes or a file. `digest` is the SHA-256 of it, where the caller knows it.

        With `only_new` an object that is there stays, and False is returned. Raises `OriginError`s, `OSError`s.
        Cancelled, the object is there whole or as it was before.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects; that one is not there is no error. Raises the first error that there was."""
        ...

    async def now(self) -> datetime:
        """What time it is by the clock that the dates of what lies here are of. Raises as `put` does."""
        ...

    async def sweep(self, before: datetime) -> None:
        """Removes what writers that were killed had begun before some moment and nobody sees."""
        ...

    async def aclose(self) -> None:
        """Ends what is under way."""
        ...


class _Clock(NamedTuple):
    """What a server's clock told, and when it was asked by this machine's two."""

    told: datetime
    asked: float
    since: float


class BucketPlace:
    """A bucket, or what lies in it below a prefix. `extra_args` go with each object that is written."""

    def __init__(self, fetcher: Fetcher, bucket: str, root: str, extra_args: Mapping[str, Any] | None) -> None:
        self._control = Control(fetcher.settings, fetcher.identities)
        self._bucket, self._root = bucket, root
        self._extra_args = dict(extra_args or {})
        self._clock: _Clock | None = None

    def at(self, key: str) -> Location:
        return s3(self._bucket, self._root + key)

    async def put(self, key: str, body: bytes | Path, *, only_new: bool, digest: str | None = None) -> bool:
        try:
            await self._control.put(
                self.at(key),
                body,
                extra_args=self._extra_args,
                if_none_match="*" if only_new else None,
                checksum=None if digest is None else f"sha256:{digest}",
            )
        except PreconditionFailed:
            return False
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        failed: Mapping[Location, OriginError] = await self._control.delete_many(map(self.at, keys))
        for error in failed.values():
            raise error

    async def now(self) -> datetime:
        """The server's clock: this machine's may be off, by days where nothing checks the time of signatures.

        It is asked for every ten minutes, also where the machine slept, of which its monotonic clock knows nothing.
        """
        if self._clock is None or not 0 <= time.time() - self._clock.asked < _KNOWN:
            asked, since = time.time(), time.monotonic()
            told = await self._control.now(self.at("")) or datetime.now(UTC)
            # A date has no parts of a second, and that of a listing may: it is this second's end that is after both.
            self._clock = _Clock(told + timedelta(seconds=1), asked, since)
        return self._clock.told + timedelta(seconds=time.monotonic() - self._clock.since)

    async def sweep(self, before: datetime) -> None:
        """Leaves the parts of unfinished uploads to the bucket's rule for them, which `lifecycle_rules` has."""

    async def aclose(self) -> None:
        await self._control.aclose()


class DirectoryPlace:
    """A directory. What is written is on the disk before it has its name, and appears by it whole.

    Raises `NotADirectoryError` where a file has its name: that would look like a store with nothing in it.
    """

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
        self._root = root

    def at(self, key: str) -> Location:
        return Location("file", "", f"{self._root}/{key}")

    async def put(self, key: str, body: bytes | Path, *, only_new: bool, digest: str | None = None) -> bool:
        return await on_thread(self._put, key, body, only_new, digest)

    async def delete(self, keys: Sequence[str]) -> None:
        await on_thread(self._delete, keys)

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def sweep(self, before: datetime) -> None:
        await on_thread(self._sweep, before.timestamp())

    async def aclose(self) -> None:
        """Nothing is held open between calls."""

    def _put(self, key: str, body: bytes | Path, only_new: bool, digest: str | None) -> bool:
        target = self._root / key
        if only_new and target.exists():
            return False
        partial = self._root / _PARTIAL / secrets.token_hex(8)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                hashing = HashingFile(file)
                if isinstance(body, Path):
                    measure(body, hashing.write)
                else:
                    hashing.write(body)
                if digest is not None and hashing.digest != digest:
                    raise SourceChanged(
                        f"{body if isinstance(body, Path) else key}: it was written while it was stored"
                    )
                file.flush()
                os.fsync(file.fileno())
            return _publish(partial, target, only_new=only_new)
        finally:
            partial.unlink(missing_ok=True)

    def _sweep(self, before: float) -> None:
        for partial in (self._root / _PARTIAL).glob("*"):
            with suppress(FileNotFoundError):  # its writer was done
                if partial.stat().st_mtime < before:
                    partial.unlink()

    def _delete(self, keys: Sequence[str]) -> None:
        folders = set()
        for key in keys:
            path = self._root / key
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            while folder not in (self._root, self._root.parent):
                try:
                    folder.rmdir()
                except OSError:  # something is in it, or it is gone
                    break
                folder = folder.parent


def _publish(partial: Path, target: Path, *, only_new: bool) -> bool:
    """Gives a file its name, with `only_new` unless another has it."""
    for attempt in range(_ATTEMPTS):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if only_new:
                return _link(partial, target)
            partial.replace(target)
        # A deletion has taken the empty folder meanwhile: before the file came, or while mkdir looked what is there.
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            _sync(target.parent)
            return True
    raise AssertionError("the last attempt returns or raises")


def _link(partial: Path, target: Path) -> bool:
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links there is no way to see and take a name in one step; what is written twice is equal.
        if target.exists():
            return False
        partial.replace(target)
    _sync(target.parent)
    return True


def _sync(folder: Path) -> None:
    with suppress(OSError):  # some file systems do not sync folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
