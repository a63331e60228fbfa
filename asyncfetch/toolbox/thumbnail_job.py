"""A job of thumbnails under way: originals go through the decode pool, and what is made of them is written."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from asyncfetch.decode.measuring import Making, unpack
from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    BucketNotFound,
    EmptyObject,
    EncryptionKeyDenied,
    PreconditionFailed,
    StorageFull,
    UnsupportedFormat,
)
from asyncfetch.jobs import TOO_MANY, Limit, is_its_own
from asyncfetch.objects import Failure
from asyncfetch.presigned import redacted
from asyncfetch.toolbox.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Image, ObjectStat
    from asyncfetch.toolbox.gallery import Gallery
    from asyncfetch.toolbox.metadata import MetadataFile
    from asyncfetch.toolbox.originals import Work
    from asyncfetch.toolbox.targets import Beside, Inside, Wish
    from asyncfetch.toolbox.wishes import Wishes


_ROUNDS = 3  # an original that was replaced meanwhile is read again so often


class Told(NamedTuple):
    """What became of one original, as it is told while the job goes on.

    `word` is `"made"`, `"there"` (another job was quicker, or it was made before), `"measured"`, `"other"` (no image,
    under a prefix of which that was not said) or `"failed"`.
    """

    uri: str
    word: str
    target: str | None = None
    bytes: int = 0  # of the thumbnail
    failure: Failure | None = None


@dataclass(slots=True)
class Made:
    """What a run has done. `stopped` says in a sentence why it ended before its end, None when it did not."""

    made: int = 0
    made_bytes: int = 0
    there: int = 0
    measured: int = 0
    others: int = 0  # that turned out to be no images
    failed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def outcomes(self) -> int:
        """Originals that something became of."""
        return self.made + self.there + self.measured + self.others + self.failed


class Thumbnails:
    """Does what `wishes` hold. `stop` may be called from the loop at any time; what is in flight then is finished.

    `told` is called on the loop for every original. At most `NetworkPolicy.concurrency` thumbnails are being written at
    once, and no more wait in memory. More failures than `limit` allows stop it.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        wishes: Wishes,
        target: Beside | Inside | None,
        making: Making,
        *,
        metadata: MetadataFile | None = None,
        gallery: Gallery | None = None,
        limit: Limit | None = None,
        told: Callable[[Told], None] | None = None,
    ) -> None:
        self.tally = Made()
        self.counts = wishes.counts
        self._fetcher, self._wishes, self._target, self._making = fetcher, wishes, target, making
        self._metadata, self._gallery, self._told = metadata, gallery, told
        self._limit = limit or Limit()
        self._stopping = self._broken = False
        self._replaced: list[Work] = []  # originals that changed while their thumbnails were made
        self._moved: dict[str, str] = {}  # where thumbnails are that are not where they were wished

    def stop(self, why: str) -> None:
        """Asks for no more originals. The first reason is the one that is told."""
        self._stopping = True
        if self.tally.stopped is None:
            self.tally.stopped = why

    async def run(self) -> Made:
        """Reads, makes and writes until all is done, or it is stopped.

        A problem that no other image would fare better with (credentials, the permission to write, a full disk) stops
        it, and is no image's failure. Cancelled, each thumbnail is there whole or not at all, and the metadata have
        whole lines.
        """
        began = time.monotonic()
        try:
            await self._work()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self.tally.seconds = time.monotonic() - began
        if self._limit.exceeded(self.tally.failed, self.tally.outcomes, ended=True):
            self.stop(TOO_MANY)
        return self.tally

    async def finish(self) -> None:
        """Puts the metadata in order and writes the gallery, also of a job that was stopped.

        Raises `OSError` where they cannot be written. Cancelled or failing, older ones stay.
        """
        if self._metadata is not None:
            await asyncio.to_thread(self._metadata.settle)
            if self._gallery is not None:
                await self._gallery.write(self._fetcher, self._metadata, self._place_of)

    async def _work(self) -> None:
        await self._pass(self._sources())
        # Also where it is being stopped: what was written is of an older original, and no later run would see that.
        for _ in range(_ROUNDS):
            works, self._replaced = self._replaced, []
            if works and not self._broken:
                await self._pass((work.listed or work.uri, work) for work in works)
        for work in self._replaced:
            error = PreconditionFailed(work.uri, "the object changes faster than its thumbnail is made")
            self._tell(Told(redacted(work.uri), "failed", None, 0, _failure(work.uri, 0, error)))

    async def _pass(
        self, sources: AsyncIterator[tuple[ObjectStat | str, Work]] | Iterator[tuple[ObjectStat | str, Work]]
    ) -> None:
        lanes = self._fetcher.settings.network.concurrency
        room = asyncio.Semaphore(lanes)
        stream = self._fetcher.images(
            sources,
            order="completion",
            on_error="yield",
            look_ahead=max(32, 2 * lanes),
            **self._making.options,
        )
        async with anyio.create_task_group() as writing, stream:
            async for item in stream:
                if self._broken:
                    break
                work: Work = item.payload
                if isinstance(item, Failure):
                    await self._failed(work, item)
                    continue
                measures, body = unpack(item.pixels)
                if self._metadata is not None and work.measure:
                    await self._measured(self._metadata, item, measures)
                if self._target is None or work.wish is None:
                    self._tell(Told(redacted(work.uri), "measured"))
                    continue
                await room.acquire()
                writing.start_soon(self._write, self._target, work, work.wish, body, item.entry.etag, item.index, room)
                del item  # its memory is lent

    async def _sources(self) -> AsyncIterator[tuple[ObjectStat | str, Work]]:
        after = 0
        while page := await asyncio.to_thread(self._wishes.works, after):
            for number, work in page:
                if self._stopping:
                    return
                after = number
                yield work.listed or work.uri, work

    async def _write(
        self,
        target: Beside | Inside,
        work: Work,
        wish: Wish,
        body: bytes,
        etag: str | None,
        index: int,
        room: asyncio.Semaphore,
    ) -> None:
        try:
            if self._broken:
                return
            written = await target.put(wish, body, etag)
            if target.by_date and (now := await self._other_than(wish.uri, etag)) is not None:
                again = wish._replace(target=written.target, there=True)
                self._replaced.append(work._replace(listed=now, wish=again, measure=self._metadata is not None))
                return
        except (AsyncfetchError, OSError) as error:
            if is_its_own(error) and not _is_the_targets(error):
                self._tell(Told(redacted(wish.uri), "failed", wish.target, 0, _failure(wish.uri, index, error)))
            else:
                self._break(error)
        else:
            if written.target != wish.target:
                self._moved[redacted(wish.uri)] = written.target
            told = Told(redacted(wish.uri), "made" if written.made else "there", written.target, len(body))
            self._tell(told)
        finally:
            room.release()

    async def _other_than(self, uri: str, etag: str | None) -> ObjectStat | None:
        """What an original is by now, if it is another than was read. In doubt it is not.

        Its thumbnail is the newer of the two, so no later run would find out by their dates.
        """
        try:
            stat = await self._fetcher.stat(uri)
        except AsyncfetchError:
            return None
        return None if None in (etag, stat.etag) or stat.etag == etag else stat._replace(as_of=time.time())

    def _place_of(self, uri: str) -> str | None:
        return self._moved.get(uri) or self._wishes.place_of(uri)

    async def _measured(self, metadata: MetadataFile, image: Image, measures: dict[str, object]) -> None:
        entry = image.entry
        digest = await self._fetcher.digest(entry)
        line = {"uri": redacted(image.uri), "etag": entry.etag, "bytes": entry.size, "digest": digest, **measures}
        await self._add(metadata, line)

    async def _failed(self, work: Work, failure: Failure) -> None:
        error = failure.exception
        if isinstance(error, EmptyObject | UnsupportedFormat) and self._may_be_other(work.uri):
            self._tell(Told(redacted(work.uri), "other"))
            return
        if not is_its_own(error):
            self._break(error)
            return
        uri = redacted(work.uri)
        if self._metadata is not None and work.measure:
            listed = work.listed
            line = {"uri": uri, "etag": listed and listed.etag, "bytes": listed and listed.size}
            await self._add(self._metadata, line | {"error": type(error).__name__, "message": str(error)})
        self._tell(Told(uri, "failed", None, 0, _failure(uri, failure.index, error, failure.stage)))

    def _may_be_other(self, uri: str) -> bool:
        return not self._wishes.named and kind_of(uri) != "image"

    async def _add(self, metadata: MetadataFile, line: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(metadata.add, line)
        except OSError as error:
            self._break(StorageFull(f"{metadata.path}: {error.strerror}"))

    def _break(self, error: Exception) -> None:
        self._broken = True
        self.stop(str(error) or repr(error))

    def _tell(self, told: Told) -> None:
        tally = self.tally
        if told.failure is not None:
            tally.failed += 1
            tally.kinds[type(told.failure.exception).__name__] += 1
        elif told.word == "made":
            tally.made += 1
            tally.made_bytes += told.bytes
        elif told.word == "there":
            tally.there += 1
        elif told.word == "other":
            tally.others += 1
        else:
            tally.measured += 1
        if self._limit.exceeded(tally.failed, tally.outcomes, ended=False):
            self.stop(TOO_MANY)
        if self._told is not None:
            self._told(told)


def _is_the_targets(error: Exception) -> bool:
    """Whether no other thumbnail could be written there either: no bucket, no permission, or none for its key."""
    if isinstance(error, BucketNotFound | EncryptionKeyDenied):
        return True
    return isinstance(error, AccessDenied) and "s3:PutObject" in str(error)


def _failure(uri: str, index: int, error: Exception, stage: str = "write") -> Failure:
    return Failure(redacted(uri), index, None, stage, getattr(error, "attempts", 0), error)
