"""Images of every kind that cameras and programs write: small, of one colour, with what is hard about each."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image


class Kind(NamedTuple):
    """A file: the shape of its thumbnail of 32 pixels, and its colour as OpenCV gives it, None where it is no image."""

    body: bytes
    shape: tuple[int, int] = (24, 32)
    color: tuple[int, ...] | None = None
    white: tuple[int, ...] | None = None

    @property
    def on_white(self) -> tuple[int, ...]:
        """The colour where there can be no alpha."""
        assert self.color is not None
        return self.white or self.color[:3]


def photograph(shade: int) -> bytes:
    """A JPEG of 40 x 30 pixels that no other shade gives."""
    pixels = np.full((30, 40, 3), (shade * 37 % 256, shade * 91 % 256, 128), np.uint8)
    pixels[: 3 + shade % 20, : 5 + shade % 30] = 255 - pixels[0, 0]
    return bytes(cv2.imencode(".jpg", pixels)[1])


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


_SIZE = (64, 48)
_RED = Image.new("RGB", _SIZE, (200, 40, 20))
_SEEN = (20, 40, 200)  # as BGR
_HALF = Image.new("RGBA", _SIZE, (200, 40, 20, 128))
_HALF_SEEN, _HALF_WHITE = (20, 40, 200, 128), (137, 147, 227)
_DEEP = np.full((48, 64, 3), (20 * 257, 40 * 257, 200 * 257), np.uint16)

KINDS = {
    "rgb.jpg": Kind(_saved(_RED, "JPEG"), color=_SEEN),
    "gray.jpg": Kind(_saved(Image.new("L", _SIZE, 90), "JPEG"), color=(90,)),
    "cmyk.jpg": Kind(_saved(_RED.convert("CMYK"), "JPEG"), color=_SEEN),
    "turned.jpg": Kind(_saved(_RED, "JPEG", exif=_exif(6)), shape=(32, 24), color=_SEEN),
    "rgb.png": Kind(_saved(_RED, "PNG"), color=_SEEN),
    "turned2.png": Kind(_saved(_RED, "PNG", exif=_exif(8)), shape=(32, 24), color=_SEEN),
    "alpha.png": Kind(_saved(_HALF, "PNG"), color=_HALF_SEEN, white=_HALF_WHITE),
    "gray-alpha.png": Kind(
        _saved(Image.new("LA", _SIZE, (90, 128)), "PNG"), color=(90, 90, 90, 128), white=(172, 172, 172)
    ),
    "palette.png": Kind(_saved(_RED.quantize(4), "PNG"), color=_SEEN),
    "bits.png": Kind(_saved(Image.new("1", _SIZE, 1), "PNG"), color=(255,)),
    "deep.png": Kind(bytes(cv2.imencode(".png", _DEEP)[1]), color=_SEEN),
    "deep-gray.png": Kind(bytes(cv2.imencode(".png", np.full((48, 64), 90 * 257, np.uint16))[1]), color=(90,)),
    "deep.tiff": Kind(bytes(cv2.imencode(".tiff", _DEEP)[1]), color=_SEEN),
    "moving.gif": Kind(
        _saved(_RED, "GIF", save_all=True, append_images=[Image.new("RGB", _SIZE, (0, 255, 0))]), color=_SEEN
    ),
    "moving2.webp": Kind(
        _saved(_RED, "WEBP", save_all=True, append_images=[Image.new("RGB", _SIZE, (0, 255, 0))]), color=_SEEN
    ),
    "alpha2.webp": Kind(_saved(_HALF, "WEBP", lossless=True), color=_HALF_SEEN, white=_HALF_WHITE),
    "thin.png": Kind(_saved(Image.new("RGB", (640, 2), (200, 40, 20)), "PNG"), shape=(1, 32), color=_SEEN),
    "dot.png": Kind(_saved(Image.new("RGB", (1, 1), (200, 40, 20)), "PNG"), shape=(1, 1), color=_SEEN),
    "torn.jpg": Kind(_saved(_RED, "JPEG")[:-200]),
    "text.jpg2": Kind(b"no image at all"),
    "empty.jpg3": Kind(b""),
}
