"""Pixels made into files: thumbnails of a contact sheet, and what `--convert` makes of an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncfetch.decode import Encoding
from asyncfetch.errors import UsageError
from asyncfetch.jobs.page import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from asyncfetch.decode import ImageOptions
    from asyncfetch.fetcher import Fetcher

_THUMBNAIL = 128  # pixels of the longer side


async def thumbnails(fetcher: Fetcher, root: Path, paths: Sequence[str]) -> list[Picture]:
    """Small pictures of the files that can be decoded. Starts the decode workers where there are any paths."""
    sources = [(root / path, path) for path in paths]
    options: ImageOptions = {"color": "bgr", "max_size": _THUMBNAIL, "transform": Encoding(".jpg", 75)}
    async with fetcher.images(sources, on_error="skip", **options) as stream:
        return [Picture(image.payload, image.pixels.tobytes()) async for image in stream]


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
        if self.max_side is not None and self.max_side < 1:
            raise UsageError(f"--max-side must be pixels, at least 1, not {self.max_side}")
        _ = self.options

    @property
    def ext(self) -> str:
        """The extension that files get."""
        return f".{self.kind}"

    @property
    def options(self) -> ImageOptions:
        """What the decode pool is told, whose pixels are then the bytes of files."""
        return {"color": "bgr", "max_size": self.max_side, "transform": Encoding(self.ext, self.quality)}
