"""OpenCV as the workers use it: bytes to pixels, pixels into a slot. Only workers import this module."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from asyncfetch.decode import damage, exif, fitting, headers, samples, sniff, tiff
from asyncfetch.decode.fitting import Part

if TYPE_CHECKING:
    import mmap

    import numpy.typing as npt

    from asyncfetch.decode.fitting import Fit
    from asyncfetch.decode.forms import Form, Limits, Pixels

# BGR also for RGB: the decoder of PAM takes no notice of IMREAD_COLOR_RGB, and on the way to the slot it costs nothing.
_FLAGS = {
    "rgb": cv2.IMREAD_COLOR_BGR,
    "bgr": cv2.IMREAD_COLOR_BGR,
    "gray": cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
}
_REDUCED = {
    False: {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8},
    True: {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8},
}
# Kinds that a build of OpenCV may lack, as its build information names them.
_OPTIONAL = {
    "AVIF": "AVIF",
    "JPEG 2000": "JPEG 2000",
    "JPEG XL": "JPEG XL",
    "OpenEXR": "OpenEXR",
    "DICOM": "DCMTK|GDCM",
}
# As dtypes and not by name: NumPy works a name out anew each time, which takes as long as opening the file.
_RESIZABLE = tuple(map(np.dtype, ("uint8", "uint16", "int16", "float32", "float64")))
_MOST_CHANNELS = 4  # of a TIFF image, which may announce 65,535
_MOST_JPEG_SIDE = 65_500  # JPEG_MAX_DIMENSION of libjpeg; the format could say 65,535
_SWAPPABLE = tuple(map(np.dtype, ("uint8", "uint16", "float32")))  # by cvtColor


class UndecodableError(Exception):
    """Raised for bytes that no pixels can be made of. `word` and `detail` are those of an answer, see `wire`."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(word, detail)
        self.word = word
        self.detail = detail


# What OpenCV last said when it was refused memory since the image was begun, also where it keeps that to itself.
_refused: deque[str] = deque(maxlen=1)


def prepare() -> None:
    """Keeps OpenCV to one thread, since the pool has a worker for each core, and hears what memory it is refused."""
    cv2.setNumThreads(1)
    # Within a decoder it catches the error, and gives None as for a damaged image.
    cv2.redirectError(lambda code, _, said, *__: _refused.append(said) if code == cv2.Error.StsNoMem else None)


def check(head: bytes) -> str:
    """Names the kind of image that begins with these bytes. Raises `UndecodableError` when it is none."""
    if not head:
        raise UndecodableError("empty", "the object is empty")
    kind = sniff.identify(head)
    if not kind.is_image:
        raise UndecodableError("unsupported", f"the content is not an image but {kind.name}")
    return kind.name


def weigh(kind: str, header: headers.Header, form: Form, limits: Limits, size: int) -> headers.Needs:
    """Says what memory an image needs, by its header. Raises `UndecodableError` when that is beyond a limit."""
    if kind == "TIFF" and header.channels > _MOST_CHANNELS:
        what = f"the content is a TIFF image with {header.channels} channels, of which OpenCV reads {_MOST_CHANNELS}"
        raise UndecodableError("unsupported", f"{what} at most")
    if header.width * header.height > limits.pixels:
        shape = f"{header.width} x {header.height} pixels"
        raise UndecodableError("oversized", f"the header of this {kind} image announces {shape}")
    if kind == "JPEG" and max(header.width, header.height) > _MOST_JPEG_SIDE:
        what = f"the content is a JPEG image of {header.width} x {header.height} pixels, of which OpenCV reads"
        raise UndecodableError("unsupported", f"{what} {_MOST_JPEG_SIDE} a side at most")
    need = headers.needs(kind, header, form, size)
    if need.scratch > limits.memory:
        raise UndecodableError(
            "memory", f"decoding this {kind} image may take {need.scratch >> 20} MiB beside its pixels"
        )
    return need


def decode(data: memoryview, kind: str, header: headers.Header, form: Form) -> Pixels:
    """Decodes an image, and makes of it what the form asks for, but BGR for RGB and always as rows of pixels.

    Raises `UndecodableError`.
    """
    _refused.clear()
    try:
        if kind == "JPEG" and (scaled := _scaled(data, header, form)) is not None:
            return _sampled(scaled, data, kind, form)
        image = _read(data, kind, form)
        height, width = image.shape[:2]
        fitted = fitting.fit(width, height, form)
        if fitted is None:
            assert form.crop is not None
            x, y, *size = form.crop
            part = f"{size[0]} x {size[1]} pixels at ({x}, {y})"
            raise UndecodableError("failed", f"the crop of {part} does not lie in its {width} x {height}")
        if image.dtype in _RESIZABLE:
            return _sampled(_fit(image, fitted.part, fitted, kind), data, kind, form)
        return _fit(_sampled(image, data, kind, form), fitted.part, fitted, kind)
    except cv2.error as error:
        raise _translate(error, kind) from None


def place(image: Pixels, form: Form, slot: mmap.mmap | memoryview) -> tuple[tuple[int, ...], str] | int:
    """Writes an image to a slot, as the form orders it. Gives its shape and dtype, or the bytes it needs."""
    if image.nbytes > len(slot):
        return image.nbytes
    swapped = form.color == "rgb"
    shape = image.shape
    if form.layout == "chw":
        shape = (image.size // (shape[0] * shape[1]), *shape[:2])
        room: Pixels = np.ndarray(shape, image.dtype, buffer=slot)
        cv2.split(image, list(room[::-1] if swapped else room))  # a copy of the transposed array takes 18 times as long
        return shape, image.dtype.str
    room = np.ndarray(shape, image.dtype, buffer=slot)
    if swapped and image.dtype in _SWAPPABLE:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=room)
    else:
        np.copyto(room, image[..., ::-1] if swapped else image)
    return shape, image.dtype.str


def arrange(image: Pixels, form: Form) -> Pixels:
    """Gives an image as `place` would write it, in memory of its own."""
    if form.color == "rgb":
        image = image[..., ::-1]
    if form.layout == "chw":
        image = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
    return np.array(image, order="C")


def put(array: Pixels, slot: mmap.mmap | memoryview, most: int) -> tuple[tuple[int, ...], str] | int:
    """Writes any array to a slot. Gives its shape and dtype, or the bytes it needs.

    With more than `most` bytes it raises `MemoryError`: a view may announce what no computer has.
    """
    if array.nbytes > most:
        raise MemoryError(f"it has {array.nbytes >> 20} MiB")
    if array.nbytes > len(slot):
        return array.nbytes
    array = np.asarray(array, array.dtype.newbyteorder("="))
    np.copyto(np.ndarray(array.shape, array.dtype, buffer=slot), array)
    return array.shape, array.dtype.str


def _scaled(data: memoryview, header: headers.Header, form: Form) -> Pixels | None:
    """Has the JPEG decoder itself shrink, where that leaves more than is asked for; None where it does not."""
    fitted = fitting.fit(header.width, header.height, form, scalable=True) if header.width and header.height else None
    if fitted is None or fitted.scale == 1:
        return None
    gray = form.color == "gray" or (form.color == "unchanged" and header.channels == 1)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[gray][fitted.scale])
    whole = Part(0, 0, header.width, header.height).divided(fitted.scale)
    if image is None or image.shape[:2] != (whole.height, whole.width):  # or it is turned, and the header does not say
        return None
    return _fit(image, fitted.part.divided(fitted.scale), fitted, "JPEG")


def _read(data: memoryview, kind: str, form: Form) -> Pixels:
    """Has OpenCV decode it, upright, to the samples as they are found or their 8-bit form."""
    buffer = np.frombuffer(data, np.uint8)
    flags = _FLAGS[form.color]
    if form.color == "unchanged":
        image = _unchanged(buffer, kind, form)
    else:
        if form.dtype != "uint8":
            flags |= cv2.IMREAD_ANYDEPTH
        image = _page(buffer, flags, form.page) if _is_later_page(kind, form) else cv2.imdecode(buffer, flags)
    if image is not None:
        if form.color == "gray" and image.ndim == 3:  # what OpenCV 5.0 makes of a colour PFM
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return image
    # TIFF of floats and integers: OpenCV gives it as it is, or not at all.
    found = _unchanged(buffer, kind, form) if form.color != "unchanged" else None
    if found is None:
        raise _failure(data, kind, form)
    if form.dtype == "uint8":
        what = f"the content is a {kind} image with {found.dtype} samples, which has no 8-bit form"
        raise UndecodableError("unsupported", f"{what} (dtype='float32' reads it)")
    if form.dtype != "unchanged":
        found = _sampled(found, data, kind, form)
    image = samples.recolor(found, form.color)
    if image is None:
        what = f"the content is a {kind} image with {found.dtype} samples, which OpenCV cannot make gray"
        raise UndecodableError("unsupported", f"{what} (dtype='float32' can)")
    return image


def _is_later_page(kind: str, form: Form) -> bool:
    if form.page and kind != "TIFF":
        raise UndecodableError("unsupported", f"the content is a {kind} image, which has no page {form.page}")
    return form.page > 0


def _unchanged(buffer: npt.NDArray[np.uint8], kind: str, form: Form) -> Pixels | None:
    """Channels and depth as in the file. OpenCV does not turn these, except TIFF, so it is done here."""
    if _is_later_page(kind, form):
        return _page(buffer, cv2.IMREAD_UNCHANGED, form.page)
    image, kinds, blocks = cv2.imdecodeWithMetadata(buffer, cv2.IMREAD_UNCHANGED)
    if image is None:
        return None
    for block in (block for of, block in zip(kinds, blocks, strict=True) if of == cv2.IMAGE_METADATA_EXIF):
        image = samples.turn_upright(image, exif.orientation(block.tobytes()))
    return image


def _page(buffer: npt.NDArray[np.uint8], flags: int, page: int) -> Pixels | None:
    done, images = cv2.imdecodemulti(buffer, flags, range=(page, page + 1))
    return images[0] if done and images else None


def _sampled(image: Pixels, data: memoryview, kind: str, form: Form) -> Pixels:
    if form.dtype == "uint8" and image.dtype == np.uint8:
        return image
    depth = headers.sample_bits(kind, data) if image.dtype == np.uint16 else 8 * image.itemsize
    converted = samples.convert(image, form.dtype, depth)
    if converted is None:
        what = f"the content is a {kind} image with {image.dtype} samples, which has no {form.dtype} form"
        raise UndecodableError("unsupported", f"{what} (dtype='float32' reads it)")
    return converted


def _fit(image: Pixels, part: Part, fitted: Fit, kind: str) -> Pixels:
    """Cuts out the part, which is in pixels of this image, and resizes it."""
    x, y, width, height = part
    image = image[y : y + height, x : x + width]
    size = fitted.width, fitted.height
    if size == (width, height):
        return image
    shrinks = fitted.width <= width and fitted.height <= height
    nearly = fitted.scale > 1 and 2 * fitted.width > width and 2 * fitted.height > height
    way = cv2.INTER_AREA if shrinks and not nearly else cv2.INTER_LINEAR  # which takes a ninth of the time
    try:
        resized = samples.resize(image, size, way)
    except cv2.error:
        what = f"the content is a {kind} image with {image.dtype} samples, which OpenCV cannot resize"
        raise UndecodableError("unsupported", f"{what} (dtype='float32' can be)") from None
    return resized


def _failure(data: memoryview, kind: str, form: Form) -> UndecodableError:
    if _refused:
        return UndecodableError("memory", f"there was not enough memory to decode this {kind} image")
    if kind in _OPTIONAL and not re.search(
        rf"^\s*(?:{_OPTIONAL[kind]}):\s+(?!NO\b)\S", cv2.getBuildInformation(), re.M
    ):
        return UndecodableError(
            "unsupported", f"the content is a {kind} image, which this build of OpenCV does not read"
        )
    if form.page and (count := len(list(tiff.pages(data)))) <= form.page:
        many = "a page" if count == 1 else f"{count} pages"
        return UndecodableError("unsupported", f"the content is a TIFF image of {many}, without a page {form.page}")
    return UndecodableError("corrupt", f"the content begins as a {kind} image, but {damage.describe(kind, data)}")


def _translate(error: Any, kind: str) -> UndecodableError:  # Any: cv2.error has attributes that its stubs do not know
    if error.code == cv2.Error.StsNoMem or "bad_alloc" in str(error):
        return UndecodableError("memory", f"there was not enough memory to decode this {kind} image")
    if "CV_IO_MAX_IMAGE" in (error.err or ""):
        return UndecodableError("oversized", f"this {kind} image has more pixels than the limit")
    return UndecodableError("corrupt", f"OpenCV could not decode this {kind} image: {error.err or error}")
