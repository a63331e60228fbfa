"""Blobs: bytes under the name of their digest, `blobs/<algorithm>/ab/<hex>`, published by rename and only whole.

Rejected: an fsync for each (some 5 ms on a disk, for a cache that can fetch again), and a hard link instead of the
rename, which not every file system has.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from asyncfetch.cache import files
from asyncfetch.settings import MIB

if TYPE_CHECKING:
    from asyncfetch.cache.owner import Owner
    from asyncfetch.cache.proofs import Proofs


# Damaged blobs that are kept: for a look at what the disk does, not to fill it.
MOST_BAD = 32
MOST_BAD_BYTES = 64 * MIB  # each


class Blobs:
    """The blobs of one cache directory. Raises `OSError` as the system does; a failed write leaves nothing behind."""

    def __init__(self, root: str, owner: Owner, proofs: Proofs) -> None:
        """`proofs` says of which digests the bytes that lie under them must be looked at first."""
        self.root = root
        self._owner = owner
        self._proofs = proofs

    def path(self, digest: str) -> str:
        """Where the blob of a digest lies, if it does."""
        return path_of(self.root, digest)

    def find(self, digest: str, size: int) -> str | None:
        """The path of a blob that is there with its right size and can be read."""
        path = self.path(digest)
        return path if files.readable_size(path) == size else None

    def read(self, digest: str, size: int) -> bytes | None:
        """The bytes of a blob that is there with its right size."""
        return files.read_whole(self.path(digest), size)

    def put(self, digest: str, data: memoryview) -> tuple[str, bool]:
        """Publishes bytes from memory. Returns the path, and False when they were there already.

        A blob of another size than its bytes have was damaged from outside, and is replaced; so is one that another
        user keeps to himself, or that is doubted and has other bytes.
        """
        path = path_of(self.root, digest)
        if files.exists(path) and files.readable_size(path) == len(data) and self._holds(digest, path, data):
            return path, False
        try:
            self._publish(self._write(data), path)
        except FileNotFoundError as error:
            # A stranger removed our unfinished file. Locks are not relied upon to prevent that: it is written again.
            self._owner.renew(str(error.filename))
            self._publish(self._write(data), path)
        self._proofs.replaced(digest)
        return path, True

    def adopt(self, digest: str, size: int, temp: str) -> tuple[str, bool]:
        """Publishes a whole file of the owner's. Returns the path, and False when the bytes were there already.

        Then the file is still the caller's; where this raises it is gone.
        """
        path = self.path(digest)
        # To put it in the place of one that is doubted costs less than to look at that.
        if files.readable_size(path) == size and not self._proofs.doubts_stored(digest):
            return path, False
        self._publish(temp, path)
        self._proofs.replaced(digest)
        return path, True

    def keep(self, data: memoryview) -> str:
        """Writes bytes into a private file of the owner's, and returns its path."""
        try:
            return self._write(data)
        except FileNotFoundError as error:
            self._owner.renew(str(error.filename))
            return self._write(data)

    def size_of(self, digest: str) -> int | None:
        """The length of what lies under a digest and can be read."""
        return files.readable_size(self.path(digest))

    def stamp_of(self, digest: str) -> files.Stamp | None:
        """What tells the file under a digest from the next that is put there, None when there is none."""
        return files.stamp_of(self.path(digest))

    def set_aside(self, digest: str) -> None:
        """Moves a blob that is no good to where nobody looks for one, as far as there is room for the curious."""
        path = self.path(digest)
        bad = f"{self.root.rpartition('/')[0]}/bad"
        if len(files.names(bad)) < MOST_BAD and (files.size_of(path) or 0) <= MOST_BAD_BYTES:
            files.make_directory(bad)
            with contextlib.suppress(FileNotFoundError):  # another process was first
                files.rename(path, f"{bad}/{path.rpartition('/')[2]}.{secrets.token_hex(4)}")
        else:
            files.remove(path)

    def clear(self) -> tuple[int, int]:
        """Removes all blobs; their number and bytes. Whoever has one open keeps its bytes."""
        number = total = 0
        bad = f"{self.root.rpartition('/')[0]}/bad"
        for name in files.names(bad):
            files.remove(f"{bad}/{name}")
        for directory in self._shards():
            for name, size in list(files.sizes(directory)):
                if files.remove(f"{directory}/{name}"):
                    number, total = number + 1, total + size
        return number, total

    def _shards(self) -> list[str]:
        algorithms = [f"{self.root}/{name}" for name in files.names(self.root)]
        return [f"{algorithm}/{name}" for algorithm in algorithms for name in files.names(algorithm)]

    def _holds(self, digest: str, path: str, data: memoryview) -> bool:
        """Whether the bytes under a path are these; they are compared where they are doubted."""
        if not self._proofs.doubts_stored(digest):
            return True
        with contextlib.suppress(OSError):  # a disk that cannot read what it was given
            if files.read_whole(path, len(data)) == data.tobytes():  # views are compared byte by byte, 40 times slower
                self._proofs.accept_stored(digest, len(data))
                return True
        return False

    def _write(self, data: memoryview) -> str:
        temp = self._owner.new_path()
        descriptor = files.create(temp)
        try:
            try:
                files.write(descriptor, data)
            finally:
                files.close(descriptor)
        except BaseException:
            _discard(temp)
            raise
        return temp

    def _publish(self, temp: str, path: str) -> None:
        try:
            try:
                files.rename(temp, path)
            except FileNotFoundError:
                shard = path.rpartition("/")[0]
                files.make_directory(shard.rpartition("/")[0])
                files.make_directory(shard)
                files.rename(temp, path)
        except BaseException:
            _discard(temp)
            raise


def path_of(root: str, digest: str) -> str:
    """Where below `root` the blob of a digest lies, if it does."""
    algorithm, _, name = digest.partition(":")
    return f"{root}/{algorithm}/{name[:2]}/{name}"


def _discard(temp: str) -> None:
    """Removes what a failure left, without hiding that failure behind a second one."""
    with contextlib.suppress(OSError):
        files.remove(temp)
