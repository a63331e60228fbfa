"""OpenCV as the workers use it: bytes to pixels, pixels into a slot. Only workers import this module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from asyncfetch.decode import damage, sniff

if TYPE_CHECKING:
    import mmap

    from asyncfetch.decode.jobs import Pixels

_FLAGS = {
    "rgb": cv2.IMREAD_COLOR,
    "bgr": cv2.IMREAD_COLOR,
    "gray": cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
}
# Kinds that a build of OpenCV may lack, as its build information names them.
_OPTIONAL = {
    "AVIF": "AVIF",
    "JPEG 2000": "JPEG 2000",
    "JPEG XL": "JPEG XL",
    "OpenEXR": "OpenEXR",
    "DICOM": "DCMTK|GDCM",
}


class UndecodableError(Exception):
    """Raised for bytes that no pixels can be made of. `word` and `detail` are those of an answer, see `wire`."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(word, detail)
        self.word = word
        self.detail = detail


def prepare() -> None:
    """Keeps OpenCV to one thread: the pool has a worker for each core."""
    cv2.setNumThreads(1)


def check(head: bytes) -> str:
    """Names the kind of image that begins with these bytes. Raises `UndecodableError` when it is none."""
    if not head:
        raise UndecodableError("empty", "the object is empty")
    kind = sniff.identify(head)
    if not kind.is_image:
        raise UndecodableError("unsupported", f"the content is not an image but {kind.name}")
    return kind.name


def decode(data: memoryview, kind: str, color: str, max_size: int) -> Pixels:
    """Decodes an image in the order BGR, gray or as found, and shrinks it. Raises `UndecodableError`."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[color])
        if image is None:
            raise _failure(data, kind, color)
        if color == "gray" and image.ndim == 3:  # what OpenCV 5.0 makes of a colour PFM
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    except cv2.error as error:
        raise _translate(error, kind) from None
    return _shrink(image, kind, max_size) if 0 < max_size < max(image.shape[:2]) else image


def place(image: Pixels, color: str, slot: mmap.mmap) -> tuple[tuple[int, ...], str] | int:
    """Writes an image to a slot, in the order that was asked for. Gives its shape and dtype, or the bytes it needs."""
    if image.nbytes > len(slot):
        return image.nbytes
    room: Pixels = np.ndarray(image.shape, image.dtype, buffer=slot)
    if color == "rgb":
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=room)
    else:
        np.copyto(room, image)
    return image.shape, image.dtype.str


def _shrink(image: Pixels, kind: str, max_size: int) -> Pixels:
    height, width = image.shape[:2]
    scale = max_size / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    try:
        shrunk: Pixels = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    except cv2.error:
        what = f"the content is a {kind} image with {image.dtype} samples, which OpenCV cannot shrink"
        raise UndecodableError("unsupported", f"{what} (it can be had without max_size)") from None
    return shrunk


def _failure(data: memoryview, kind: str, color: str) -> UndecodableError:
    if color != "unchanged":
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is not None:
            what = f"the content is a {kind} image with {found.dtype} samples, which has no 8-bit form"
            return UndecodableError("unsupported", f"{what} (color='unchanged' reads it)")
    if kind in _OPTIONAL and not re.search(
        rf"^\s*(?:{_OPTIONAL[kind]}):\s+(?!NO\b)\S", cv2.getBuildInformation(), re.M
    ):
        return UndecodableError(
            "unsupported", f"the content is a {kind} image, which this build of OpenCV does not read"
        )
    return UndecodableError("corrupt", f"the content begins as a {kind} image, but {damage.describe(kind, data)}")


def _translate(error: Any, kind: str) -> UndecodableError:  # Any: cv2.error has attributes that its stubs do not know
    if error.code == cv2.Error.StsNoMem:
        return UndecodableError("memory", f"there was not enough memory to decode this {kind} image")
    if "CV_IO_MAX_IMAGE" in (error.err or ""):
        limit = "more pixels than OpenCV's limit (OPENCV_IO_MAX_IMAGE_PIXELS)"
        return UndecodableError("unsupported", f"the content is a {kind} image that announces {limit}")
    return UndecodableError("corrupt", f"OpenCV could not decode this {kind} image: {error.err or error}")
