"""Images by key, for datasets that are asked for one at a time."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import TYPE_CHECKING, Any

from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.blocking.lending import Keys
from asyncfetch.blocking.memory import Memory
from asyncfetch.errors import DecodeError, ObjectNotFound, UsageError
from asyncfetch.settings import MIB, Access, CachePolicy, Settings, parse_size
from asyncfetch.uris import Location, parse, s3

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    import numpy as np
    import numpy.typing as npt

    from asyncfetch.objects import Report
    from asyncfetch.settings import Job

    Pixels = npt.NDArray[np.uint8]

logger = logging.getLogger(__name__)

_MEMORY = 256 * MIB  # some 290 images of 640x480 in colour
# What OpenCV reads, as people name it.
_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif", ".jp2",
    ".pbm", ".pgm", ".ppm", ".pxm", ".pnm", ".pfm", ".sr", ".ras", ".exr", ".hdr", ".pic",
)  # fmt: skip


class S3ImageLoader:
    """Loads images of a bucket by key: from memory, else from the cache on disk, else from S3.

    - `cache_dir`: as for `Fetcher`.
    - `bucket`: of keys that are no `s3://` URIs; else `DEFAULT_BUCKET` of the environment.
    - `memory`: bytes, or text such as `"256MiB"`, of pixels kept in memory; one that was used last stays longest.

    `S3_ACCESS_KEY` and `S3_SECRET_KEY` sign where both are set, and `DEFAULT_REGION` names the region; else the
    standard AWS chain does. It can be used by several threads, before and after a fork, and pickled (with what is in
    the environment there, and nothing in memory), so by the workers of a DataLoader; all of them are one job. Closed by
    `with`, `close`, the end of the program, or when it is dropped. Raises `UsageError` where one of the keys is set
    without the other.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        bucket: str | None = None,
        *,
        memory: int | str = _MEMORY,
        job: Job | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        self._bucket = bucket or os.environ.get("DEFAULT_BUCKET") or None
        self._limit = parse_size(memory, name="memory")
        access = Access(region=os.environ.get("DEFAULT_REGION") or None, credentials=_keys())
        self._fetcher = Fetcher(Settings(access=access, cache=CachePolicy(cache_dir=cache_dir), job=job))
        self._job = self._fetcher.settings.job  # which begins now, before any fork
        self._memory = Memory(self._limit)

    def load_image(self, key: str) -> Pixels | None:
        """The pixels of an image: (H, W, 3) uint8 in BGR, as OpenCV has them, and read-only, for others get the same.

        None for an object that is missing, or of which no image can be made; why is logged as an error. What concerns
        more than one object is raised by its name: refused access, credentials, an origin that cannot be reached, a
        missing bucket. Copy it to draw into it.
        """
        found = self._memory.get(key)
        if found is not None:
            return found
        location = self._locate(key)
        try:
            image = self._fetcher.image(location, color="bgr")
        except (ObjectNotFound, DecodeError) as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says it all, and a traceback a line of this file
            return None
        pixels = image.pixels.copy()  # shared memory counts against the budget of what is being decoded
        pixels.flags.writeable = False
        self._memory.put(key, pixels)
        return pixels

    def get_image_list(self, prefix: str = "") -> list[str]:
        """The names of the images under a prefix, in the order of their keys, told by their endings.

        They are keys; under a prefix that is an `s3://` URI, URIs. Raises as `Fetcher.list` does.
        """
        whole = _is_uri(prefix)
        found = ((stat.uri, parse(stat.uri).key) for stat in self._fetcher.list(self._locate(prefix)))
        return [uri if whole else key for uri, key in found if key.lower().endswith(_SUFFIXES)]

    def prefetch_images(self, keys: Iterable[str]) -> Report:
        """Brings images into the cache on disk, many at a time, whatever fails, and reports.

        The first failures are logged as errors. Raises nothing that concerns a single object.
        """
        report = self._fetcher.prefetch(self._locate(key) for key in keys)
        for failure in report.failures[:10]:
            logger.error("%s", failure.exception)
        if report.failed > 10:
            logger.error("%d more objects could not be fetched", report.failed - 10)
        return report

    def clear_cache(self, older_than_days: float | None = None) -> int:
        """Removes from the cache on disk what was written so many days ago or earlier, or all, and empties the memory.

        Returns the number of blobs that are gone. The cache may be shared: what others fetched goes too, and what they
        have open they keep. Raises `UsageError` for a number of days that is none, `CacheUnusable`.
        """
        from asyncfetch.cache.upkeep import Gone, Stuck, clear_old, upkeep

        before = math.inf
        if older_than_days is not None:
            if isinstance(older_than_days, bool) or not older_than_days >= 0:
                raise UsageError(f"older_than_days must be a number of days, not {older_than_days!r}")
            before = time.time() - older_than_days * 86_400
        self._memory.clear()
        gone = 0
        with upkeep(self._fetcher.settings.cache) as keeping:
            for blob in clear_old(keeping, before):
                if isinstance(blob, Stuck):
                    logger.error("%s could not be removed: %s", blob.path, blob.reason)
                gone += isinstance(blob, Gone)
        return gone

    def close(self) -> None:
        """Frees what is held. Closing twice does nothing."""
        self._memory.clear()
        self._fetcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._cache_dir, self._bucket, self._limit, self._job)

    def _locate(self, key: str) -> Location:
        if _is_uri(key):
            return parse(key)
        if self._bucket is None:
            raise UsageError(f"{key!r} is a key, and no bucket is named", remedy="Set bucket, or DEFAULT_BUCKET.")
        return s3(self._bucket, key)


def _remake(cache_dir: str | None, bucket: str | None, memory: int, job: Job | None) -> S3ImageLoader:
    return S3ImageLoader(cache_dir, bucket, memory=memory, job=job)


def _is_uri(key: str) -> bool:
    return key[:5].lower() == "s3://"


def _keys() -> Keys | None:
    access_key, secret_key = os.environ.get("S3_ACCESS_KEY"), os.environ.get("S3_SECRET_KEY")
    if not access_key and not secret_key:
        return None
    if not access_key or not secret_key:
        missing = "S3_SECRET_KEY" if access_key else "S3_ACCESS_KEY"
        raise UsageError(f"{missing} is not set, and its companion is", remedy="Set both, or neither.")
    return Keys(access_key, secret_key)
