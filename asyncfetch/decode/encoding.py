"""Pixels made into a file again, in the worker that decoded them: what crosses to the parent is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from asyncfetch.checks import settle_count
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Pixels

Extension = Literal[".jpg", ".jpeg", ".png", ".webp"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Makes a file of pixels; a `transform` of `DecodeOptions`, whose arrays are then the bytes of files.

    It takes gray, BGR and BGRA of 8 bits, as `color="bgr"` and `color="unchanged"` with `dtype="uint8"` give them.
    `extension` is `".jpg"`, `".png"` or `".webp"`; `quality`, from 1 to 100, means nothing to PNG. JPEG has no alpha:
    what is transparent becomes white. Raises `UsageError`; called, `ValueError` for what the format cannot hold.
    """

    extension: str
    quality: int = 90

    def __post_init__(self) -> None:
        if self.extension not in get_args(Extension):
            raise UsageError(f"a picture must be .jpg, .png or .webp, not {self.extension!r}")
        if not settle_count(self, "quality", 1, 100):
            raise UsageError(f"--quality must be from 1 to 100, not {self.quality!r}")

    def __call__(self, pixels: Pixels) -> Pixels:
        """The file, as an array of bytes."""
        import cv2

        extension = self.extension
        if extension in (".jpg", ".jpeg") and pixels.ndim == 3 and pixels.shape[2] == 4:
            pixels = on_white(pixels)
        flag = {".png": None, ".webp": cv2.IMWRITE_WEBP_QUALITY}.get(extension, cv2.IMWRITE_JPEG_QUALITY)
        try:
            written, data = cv2.imencode(extension, pixels, [] if flag is None else [flag, self.quality])
        except cv2.error as error:
            raise ValueError(f"{extension} cannot hold this image: {error.err}") from None
        if not written:
            raise ValueError(f"{extension} cannot hold this image")
        encoded: Pixels = data
        return encoded


def on_white(pixels: Pixels) -> Pixels:
    """Lays BGRA of 8 bits on white, and gives BGR."""
    import cv2
    import numpy as np

    alpha = cv2.merge([pixels[..., 3]] * 3).astype(np.uint16)
    mixed = pixels[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
