"""Image files of kinds that OpenCV does not write, put together here by their specifications."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels

# The passes of Adam7: first column and row, steps between columns and rows (PNG, third edition, section 8.1).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, body: bytes, flip: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ flip)


def png_file(width: int, height: int, body: bytes, *, bits: int = 8, color: int = 2, flip: int = 0) -> bytes:
    """A PNG with these compressed scan lines, of which there may be too few."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", body, flip), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def interlaced_png(pixels: Pixels) -> bytes:
    """Gray, gray with alpha, RGB or RGBA of 8 or 16 bits, in seven passes."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    lines = b""
    for left, top, across, down in _ADAM7:
        part = pixels[top::down, left::across]
        if part.size:
            lines += b"".join(b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _PNG_COLORS[channels], 0, 0, 1)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_png(indices: Pixels, colors: Sequence[tuple[int, int, int]], alphas: bytes = b"") -> bytes:
    """A PNG of 8-bit indices into RGB colours, the first of which may have alphas."""
    height, width = indices.shape
    lines = b"".join(b"\0" + row.tobytes() for row in indices.astype(np.uint8))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))]
    parts.append(chunk(b"PLTE", bytes(value for color in colors for value in color)))
    if alphas:
        parts.append(chunk(b"tRNS", alphas))
    parts += chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def four_channel_jpeg(inks: Sequence[tuple[int, int, int, int]], *, transform: int) -> bytes:
    """A baseline JPEG of flat blocks of 8x8 pixels in a row, each of four channels as they are stored (T.81).

    `transform` is that of Adobe's marker: 0 for CMYK, 2 for YCCK; both stored inverted, as Photoshop does.
    """
    quantization = b"\0" + bytes([8] * 64)  # the DC coefficient is then just the sample, less 128
    lengths = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])  # table K.3
    categories = bytes(range(12))
    dc_codes = _canonical(lengths, categories)
    frame = struct.pack(">BHHB", 8, 8, 8 * len(inks), 4) + bytes(byte for c in range(4) for byte in (c + 1, 0x11, 0))
    scan = bytes([4, *(byte for c in range(4) for byte in (c + 1, 0)), 0, 63, 0])
    bits, before = "", [0, 0, 0, 0]
    for ink in inks:
        for channel, value in enumerate(ink):
            difference = value - 128 - before[channel]
            before[channel] = value - 128
            size = abs(difference).bit_length()
            bits += dc_codes[size]
            if size:
                bits += format(difference if difference > 0 else difference + (1 << size) - 1, f"0{size}b")
            bits += "0"  # the end of the block, the only code of the AC table below
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    segments = [
        (0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)),
        (0xDB, quantization),
        (0xC0, frame),
        (0xC4, b"\x00" + lengths + categories),
        (0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0"),
        (0xDA, scan),
    ]
    written = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"\xff\xd8" + written + data + b"\xff\xd9"


def _canonical(lengths: bytes, values: bytes) -> dict[int, str]:
    codes, code, left = {}, 0, list(values)
    for length, count in enumerate(lengths, start=1):
        for _ in range(count):
            codes[left.pop(0)] = format(code, f"0{length}b")
            code += 1
        code <<= 1
    return codes


def tiff_file(pixels: Pixels, *, orientation: int = 1) -> bytes:
    """One uncompressed strip of (H, W) or (H, W, C) samples, whatever their dtype."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    form = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    body = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    bits_at = 8
    begin = bits_at + 4 * channels
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, 8 * pixels.itemsize if channels == 1 else bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 1 if channels == 1 else 2),
        (273, 4, 1, begin),
        (274, 3, 1, orientation),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(body)),
        (339, 3, 1, form),
    ]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    bits = struct.pack(f"<{2 * channels}H", *[8 * pixels.itemsize] * channels, *[0] * channels)
    head = b"II*\0" + struct.pack("<I", begin + len(body))
    return head + bits + body + struct.pack("<H", len(tags)) + directory + bytes(4)


def exif(orientation: int, order: str = ">") -> bytes:
    """An Exif block that says nothing but how the camera was held."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
