"""Thumbnails of many images, written back to S3 or into a directory, with metadata and a page that shows them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypedDict

from asyncfetch.decode import Encoding
from asyncfetch.decode.measuring import Making
from asyncfetch.errors import UsageError
from asyncfetch.jobs import Directory, Layout, Limit, Record, Request
from asyncfetch.origins.control import Control
from asyncfetch.presigned import redacted
from asyncfetch.toolbox.gallery import Gallery
from asyncfetch.toolbox.metadata import MetadataFile
from asyncfetch.toolbox.targets import Beside, Inside
from asyncfetch.toolbox.thumbnail_job import Made, Thumbnails, Told
from asyncfetch.toolbox.wishes import Wishes

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from typing import Unpack

    from asyncfetch.fetcher import Fetcher

__all__ = ["Made", "ThumbnailOptions", "Told", "prepared", "thumbnails"]

LEDGER = "ledger.jsonl"


class ThumbnailOptions(TypedDict, total=False):
    """How thumbnails are made, and where they go: the keywords of `thumbnails`.

    - `suffix`, `"_thumb.webp"`: what replaces the extension; its own (.webp, .png, .jpg) is the format.
    - `to`: a prefix of S3, `output`: a directory of this machine; without either they lie beside their originals.
    - `max_side`, 256: pixels of the longer side at most; `quality`, 80: that of WebP and JPEG, from 1 to 100.
    - `metadata`: a file for a line of JSON an image (`MetadataFile`); with `metadata_only` no thumbnail is made.
    - `gallery`: a page of HTML that shows all of them.
    - `again`: also what is there is made anew. `max_failures`: with more, it is stopped (`Limit`).
    - `told`: called on the loop with what became of each original.
    """

    suffix: str
    to: str | None
    output: str | os.PathLike[str] | None
    max_side: int
    quality: int
    metadata: str | os.PathLike[str] | None
    metadata_only: bool
    gallery: str | os.PathLike[str] | None
    again: bool
    max_failures: Limit | None
    told: Callable[[Told], None] | None


async def thumbnails(fetcher: Fetcher, wanted: str | Request, **options: Unpack[ThumbnailOptions]) -> Made:
    """Makes thumbnails of the images under a prefix, or of those that a `Request` means, which may be a list of names.

    What is there and newer than its original is left alone; over anything else than a thumbnail of the same original
    nothing is written. See `ThumbnailOptions` for the keywords. Run again, it goes on where it ended.

    An image that cannot be read, decoded or written is counted in what is returned, and told of. What no other would
    fare better with (credentials, no permission to write, a full disk) stops the job: `Made.stopped` says why.

    Raises `UsageError` for options that mean nothing, metadata or a directory that are not its own,
    `DirectoryBusy` where another job writes there, what listing raises, and `OSError` for files that cannot be written.
    Cancelled, each thumbnail is there whole or not at all, the metadata have whole lines, and nothing is left behind.
    """
    async with prepared(fetcher, wanted, **options) as job:
        made = await job.run()
        await job.finish()
        return made


@contextlib.asynccontextmanager
async def prepared(
    fetcher: Fetcher, wanted: str | Request, **options: Unpack[ThumbnailOptions]
) -> AsyncIterator[Thumbnails]:
    """The job of `thumbnails` before it begins: `counts` says what there is to do, `run` does it, `stop` ends it, and
    `finish` writes metadata and gallery.

    Until `run` nothing is made, and nothing is changed but for the state of an `output` directory.
    """
    request = Request(prefix=wanted) if isinstance(wanted, str) else wanted
    metadata_only, output, again = options.get("metadata_only", False), options.get("output"), options.get("again")
    suffix, to, gallery = options.get("suffix", "_thumb.webp"), options.get("to"), options.get("gallery")
    max_side, quality = options.get("max_side", 256), options.get("quality", 80)
    if max_side < 1:
        raise UsageError(f"--max-side must be pixels, at least 1, not {max_side}")
    if metadata_only and options.get("metadata") is None and gallery is None:
        raise UsageError("--metadata-only makes nothing but metadata", remedy="Say --metadata FILE.")
    if to is not None and output is not None:
        raise UsageError("--to and --output are two places", remedy="Say one of them.")
    if "/" in suffix or "\0" in suffix or not Path(f"x{suffix}").suffix:
        raise UsageError(f"--suffix {suffix!r} ends no name", remedy="Write such as _thumb.webp.")
    encoding = None if metadata_only else Encoding(Path(f"x{suffix}").suffix.lower(), quality)
    made_as = f"max-side={max_side} quality={quality}"
    async with contextlib.AsyncExitStack() as opened:
        target: Beside | Inside | None = None
        page = None
        if encoding is None:
            pass
        elif output is None:
            control = await opened.enter_async_context(Control(fetcher.settings, fetcher.identities))
            target = Beside(control, suffix, to=to, made_as=made_as, again=bool(again))
        else:
            directory = opened.enter_context(Directory(output))
            kept = {"thumbnails": f"{suffix} {made_as}"}
            record = opened.enter_context(Record(directory.root / LEDGER, kept))
            target = Inside(directory, record, Layout(ext=suffix))
        if gallery is not None:
            folder = None if output is None or metadata_only else Path(output)
            title = redacted(request.rows or request.prefix or f"{len(request.uris)} images")
            page = Gallery(gallery, title, folder=folder)
        path = options.get("metadata")
        if path is None and page is not None:  # which shows what is measured
            path = Path(opened.enter_context(TemporaryDirectory(prefix="asyncfetch-"))) / "metadata.jsonl"
        metadata = None if path is None else opened.enter_context(MetadataFile(path))
        wishes = opened.enter_context(Wishes(target))
        await wishes.build(
            fetcher, request, measured=None if metadata is None else metadata.measured(), again=bool(again)
        )
        yield Thumbnails(
            fetcher,
            wishes,
            target,
            Making(encoding, max_side, metadata is not None),
            metadata=metadata,
            gallery=page,
            limit=options.get("max_failures"),
            told=options.get("told"),
        )
