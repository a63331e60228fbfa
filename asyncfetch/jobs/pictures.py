"""Pixels made into files: thumbnails of a contact sheet, and what `--convert` makes of an object."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncfetch.errors import UsageError
from asyncfetch.jobs.page import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from asyncfetch.fetcher import Fetcher

_THUMBNAIL = 128  # pixels of the longer side


async def thumbnails(fetcher: Fetcher, root: Path, paths: Sequence[str]) -> list[Picture]:
    """Small pictures of the files that can be decoded. Starts the decode workers where there are any paths."""
    made: list[Picture] = []
    sources = [(root / path, path) for path in paths]
    stream = fetcher.images(sources, color="bgr", max_size=_THUMBNAIL, on_error="skip")
    if not sources:
        return made
    async with stream:
        async for image in stream:
            made.append(Picture(image.payload, await asyncio.to_thread(encode, image.pixels, ".jpg", 75)))
    return made


@dataclass(frozen=True, slots=True)
class Convert:
    """What objects are made into: `kind` `"jpg"`, `"png"` or `"webp"`, and how.

    An image whose longer side has more than `max_side` pixels is shrunk; `quality` is from 1 to 100, and means nothing
    to PNG. Colours are 8 bits, three channels, turned upright as EXIF says. Raises `UsageError`.
    """

    kind: str
    max_side: int | None = None
    quality: int = 90

    def __post_init__(self) -> None:
        if self.kind not in ("jpg", "png", "webp"):
            raise UsageError(f"--convert must be jpg, png or webp, not {self.kind!r}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality must be from 1 to 100, not {self.quality}")
        if self.max_side is not None and self.max_side < 1:
            raise UsageError(f"--max-side must be pixels, at least 1, not {self.max_side}")

    @property
    def ext(self) -> str:
        """The extension that files get."""
        return f".{self.kind}"


def encode(pixels: Any, ext: str, quality: int) -> bytes:
    """Encodes pixels, in BGR, as `.jpg`, `.png` or `.webp`. Raises `ValueError` for what the format cannot hold."""
    import cv2

    flag = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}.get(ext)
    try:
        written, data = cv2.imencode(ext, pixels, [] if flag is None else [flag, quality])
    except cv2.error as error:
        raise ValueError(f"{ext} cannot hold this image: {error.err}") from None
    if not written:
        raise ValueError(f"{ext} cannot hold this image")
    return bytes(data)
