"""Pixels made into files: small pictures for pages, and what `--convert` makes of an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncfetch.decode import Encoding
from asyncfetch.errors import UsageError
from asyncfetch.jobs.html import Picture

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from asyncfetch.decode import ImageOptions
    from asyncfetch.fetcher import Fetcher
    from asyncfetch.objects import Sources

SIDE = 128  # pixels of the longer side, on a contact sheet
_QUALITY = 70


async def pictures(fetcher: Fetcher, sources: Sources, *, side: int = SIDE) -> AsyncGenerator[Picture]:
    """Small pictures of those sources that can be decoded, in their order, each named by its payload.

    Starts the decode workers where there are any.
    """
    options: ImageOptions = {
        "color": "unchanged",
        "dtype": "uint8",
        "max_size": side,
        "transform": Encoding(".webp", _QUALITY),
    }
    async with fetcher.images(sources, on_error="skip", **options) as stream:
        async for image in stream:
            yield Picture(image.payload, image.pixels.tobytes())


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
