"""What an image's header says before anything is decoded, and how much memory decoding it will take.

Sizes are read by imagesize, which knows the headers of nearly all that OpenCV decodes. What it does not tell (bits of
samples, the pages of a TIFF file) is read here, and so are JPEG, which it takes long for, and GIF and BMP, of which it
gets some wrong: a GIF of more than 32,767 pixels a side, a BMP as OS/2 writes it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.decode import jpeg, tiff
from asyncfetch.decode.exif import is_on_its_side, orientation
from asyncfetch.decode.fitting import fit

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form

_LOOK = 64 << 10  # bytes in which the headers of AVIF and JPEG 2000 are looked for
_SAMPLE_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
_FLOATS = ("PFM", "Radiance HDR", "OpenEXR")

# Bytes for each pixel that decoders hold at once besides the file: so many, and the decoded pixels so often, which
# OpenCV copies once more. Measured on 24 megapixels (JPEG 2000: 6) as the peak of the process, with OpenCV 5.0.
_DECODERS = {
    "WebP": (6, 1),
    "GIF": (9, 1),
    "AVIF": (20, 1),  # an animation twice as much
    "JPEG 2000": (17, 1),
    "TIFF": (8, 2),
}
_OTHERS = (0, 2)
_COEFFICIENTS = (
    6  # of a progressive JPEG 4:4:4, which its decoder holds whatever the scale; the pixels are then one copy
)


class Header(NamedTuple):
    """What is known of an image: its upright size, 0 where nothing is, and the most its channels and bits can be."""

    width: int
    height: int
    channels: int
    bits: int  # of one sample
    progressive: bool = False  # of a JPEG


_UNKNOWN = Header(0, 0, 4, 16)


class Needs(NamedTuple):
    """Memory for one image, in bytes: of its pixels as they are handed over, and beside them while it is decoded."""

    pixels: int
    scratch: int


class _Window:
    """Bytes as a file, without copying them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        begin = self._at
        self._at = len(self._data) if size < 0 else min(len(self._data), begin + size)
        return bytes(self._data[begin : self._at])

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def tell(self) -> int:
        return self._at


def read_header(kind: str, data: memoryview, page: int = 0) -> Header:
    """Reads the header of an image, or of one page of a TIFF file. Whatever the bytes are, nothing is raised."""
    if kind == "TIFF":
        for number, found in enumerate(tiff.pages(data)):
            if number == page:
                return Header(*found)
        return _UNKNOWN
    if kind == "JPEG":
        return _jpeg(data)
    if kind in ("GIF", "BMP"):
        return _gif(data) if kind == "GIF" else _bmp(data)
    import imagesize  # with an HTTP client: 40 ms of a worker's start, which one that sees only JPEG does without

    try:
        info = imagesize.get_info(_Window(data))
        width, height, channels = info.width, info.height, info.channels
    except Exception:  # what hostile bytes may raise in a parser is not listed anywhere
        width, height, channels = -1, -1, -1
    if kind == "AVIF" and width < 0:  # the box that says how it is turned ends the patience of imagesize 2.0
        width, height = _largest_extent(data)
    if width < 0 or height < 0:
        return _UNKNOWN._replace(bits=32) if kind in _FLOATS else _UNKNOWN
    if is_on_its_side(kind, data):
        width, height = height, width
    return Header(width, height, channels if channels > 0 else 4, _bits(kind, data))


def needs(kind: str, header: Header, form: Form, size: int) -> Needs:
    """Says how much memory an image will need whose file has `size` bytes. Without a known size nothing but that."""
    if not (header.width and header.height):
        return Needs(0, size)
    found = max(1, header.bits // 8)
    channels = {"rgb": 3, "bgr": 3, "gray": 1}.get(form.color, header.channels)
    read = channels * (1 if form.dtype == "uint8" else found)
    given = channels * _SAMPLE_BYTES.get(form.dtype, found)
    if kind == "TIFF" and form.dtype != "uint8":
        read = max(read, header.channels * found)  # what OpenCV gives only as it is, other channels are made of here
    fixed, copies = _DECODERS.get(kind, _OTHERS)
    each = fixed + copies * read
    if kind == "TIFF" and form.dtype == "uint8" and found > 1:
        each += header.channels * found  # a strip as it is in the file, and it may be all of it
    if given != read:
        each += given
    fitted = fit(header.width, header.height, form, scalable=kind == "JPEG")
    scale = fitted.scale if fitted is not None else 1
    if fitted is not None and channels == 4 and (fitted.width, fitted.height) != fitted.part[2:]:
        each += 4 * read  # the colours weighted by their alpha, which have twice the bits
    pixels = header.width * header.height
    scratch = pixels * each // scale**2
    if header.progressive:
        scratch = pixels * _COEFFICIENTS + pixels * (each - read) // scale**2
    if fitted is None:  # it is decoded none the less, and fails if its crop does not lie in what comes of that either
        return Needs(0, scratch + size)
    result = fitted.width * fitted.height * given
    if form.transform or form.calls:  # which is given a copy of its own; what it makes of that is not known before
        return Needs(0, scratch + size + 2 * result)
    return Needs(result, scratch + size)


def sample_bits(kind: str, data: memoryview) -> int:
    """The bits that an unsigned sample of 16 really has: AVIF and JPEG 2000 have 10 and 12 of them, low in the word."""
    if kind == "AVIF":  # AV1 in ISOBMFF, section 2.3.3: high_bitdepth and twelve_bit
        head = bytes(data[:_LOOK])
        at = head.find(b"av1C")
        if 0 <= at < len(head) - 6:
            return {0: 8, 2: 10, 3: 12}.get(head[at + 6] >> 5 & 3, 16)
    if kind == "JPEG 2000":  # ISO/IEC 15444-1, section A.5.1: Ssiz of the first component, less one
        head = bytes(data[:_LOOK])
        at = head.find(b"\xff\x4f\xff\x51")
        if 0 <= at < len(head) - 42:
            return (head[at + 42] & 0x7F) + 1
    return 16


def _bits(kind: str, data: memoryview) -> int:
    if kind in ("WebP", "PAM", "Sun raster"):
        return 8
    if kind == "PNG":
        return 16 if data[24] == 16 else 8  # IHDR (PNG, third edition, section 11.2.1)
    return 8 if sample_bits(kind, data) == 8 else 16


def _jpeg(data: memoryview) -> Header:
    width, height, channels, progressive, exif = jpeg.look(data)
    if not channels:
        return _UNKNOWN
    if exif is not None and orientation(exif) >= 5:  # it lies on its side
        width, height = height, width
    return Header(width, height, channels, 8, progressive)


def _gif(data: memoryview) -> Header:
    """The logical screen (GIF89a, section 18)."""
    if len(data) < 10:
        return _UNKNOWN
    width, height = struct.unpack_from("<HH", data, 6)
    return Header(width, height, 4, 8)


def _bmp(data: memoryview) -> Header:
    """A BITMAPCOREHEADER of 12 bytes, or one of those that have grown from BITMAPINFOHEADER (Windows' bitmap storage).

    With 8 bits a pixel or fewer there is a palette, which may be in colour.
    """
    if len(data) < 30:
        return _UNKNOWN
    is_core = struct.unpack_from("<I", data, 14)[0] == 12
    width, height, _, bits = struct.unpack_from("<HHHH" if is_core else "<iiHH", data, 18)
    # A negative height says that the first row is at the top.
    return Header(max(0, width), abs(height), 4 if bits == 32 else 3, 8)


def _largest_extent(data: memoryview) -> tuple[int, int]:
    """The largest of the image spatial extents (ISO/IEC 23008-12, section 6.5.3) of an AVIF file."""
    head, found, at = bytes(data[:_LOOK]), (-1, -1), -1
    while (at := head.find(b"ispe", at + 1)) >= 0 and at + 16 <= len(head):
        found = max(found, struct.unpack_from(">II", head, at + 8), key=lambda extent: extent[0] * extent[1])
    return found
