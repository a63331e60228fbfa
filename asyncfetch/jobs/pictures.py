"""Pixels made into files: thumbnails of a contact sheet, and what `--convert` makes of an object."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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


def encode(pixels: Any, ext: str, quality: int) -> bytes:
    """Encodes pixels, in BGR, as `.jpg`, `.png` or `.webp`. `quality` is from 1 to 100; PNG loses nothing anyhow."""
    import cv2

    flag = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}.get(ext)
    ok, data = cv2.imencode(ext, pixels, [] if flag is None else [flag, quality])
    if not ok:
        raise ValueError(f"OpenCV does not write {ext}")
    return bytes(data)
