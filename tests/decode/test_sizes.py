"""Sizes of nothing, of one, and the most that a header can say, in each format whose header is simply written."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from asyncfetch.decode import DecodeOptions, codecs
from asyncfetch.decode.forms import Limits
from asyncfetch.decode.headers import Header, read_header
from tests.decode.parts import encode

if TYPE_CHECKING:
    from collections.abc import Callable

# Where the size stands in what OpenCV writes, width first, and how.
_PLACES = {".png": (16, 20, ">I"), ".gif": (6, 8, "<H"), ".bmp": (18, 22, "<i"), ".webp": (26, 28, "<H")}
_MOST = {".jpg": 65_500, ".webp": 16_383}  # OpenCV, and the format
_EXTENSIONS = [".png", ".jpg", ".gif", ".bmp", ".webp", ".tiff"]
_LIMITS = Limits(1 << 28, 5 << 30)


def flat(extension: str, width: int, height: int) -> bytes:
    return encode(extension, np.full((height, width, 3), 70, np.uint8), *([64, 80] if extension == ".webp" else []))


def announcing(extension: str, width: int, height: int) -> bytes:
    """A file of 8 x 8 pixels whose header says something else."""
    data = bytearray(flat(extension, 8, 8))
    if extension == ".jpg":
        frame = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, frame + 5, height, width)
    elif extension == ".tiff":
        directory = struct.unpack_from("<I", data, 4)[0]
        for at in range(directory + 2, len(data) - 12, 12):
            tag, kind = struct.unpack_from("<HH", data, at)
            if tag in (256, 257):
                struct.pack_into("<H2x" if kind == 3 else "<I", data, at + 8, width if tag == 256 else height)
    else:
        across, down, form = _PLACES[extension]
        struct.pack_into(form, data, across, width)
        struct.pack_into(form, data, down, height)
    return bytes(data)


def made_of(data: bytes) -> tuple[Header, tuple[int, ...]]:
    """The header and the shape of what comes out, as a worker goes about it."""
    form, view = DecodeOptions().form, memoryview(data)
    kind = codecs.check(data[:4096])
    header = read_header(kind, view)
    codecs.weigh(kind, header, form, _LIMITS, len(data))
    return header, codecs.decode(view, kind, header, form).shape


def complaint(data: bytes) -> str:
    with pytest.raises(codecs.UndecodableError) as caught:
        made_of(data)
    return f"{caught.value.word}: {caught.value.detail}"


@pytest.mark.parametrize("extension", _EXTENSIONS)
@pytest.mark.parametrize("shape", ["one", "wide", "tall"])
def test_one_pixel_and_the_longest_sides_are_decoded(extension: str, shape: str) -> None:
    most = _MOST.get(extension, 65_535)
    width, height = {"one": (1, 1), "wide": (most, 1), "tall": (1, most)}[shape]
    header, made = made_of(flat(extension, width, height))
    assert (header.width, header.height) == (width, height)
    assert made == (height, width, 3)


@pytest.mark.parametrize("extension", _EXTENSIONS)
@pytest.mark.parametrize("size", [(0, 8), (8, 0), (0, 0)])
def test_a_side_of_nothing_is_corrupt(extension: str, size: tuple[int, int]) -> None:
    assert complaint(announcing(extension, *size)).startswith("corrupt: ")


@pytest.mark.parametrize("extension", [".png", ".jpg", ".gif", ".bmp", ".tiff"])
def test_a_header_that_announces_the_most_is_over_the_limit(extension: str) -> None:
    assert complaint(announcing(extension, 65_535, 65_535)).startswith("oversized: the header of this ")


@pytest.mark.parametrize("size", [(65_535, 8), (8, 65_501)])
def test_a_jpeg_of_longer_sides_than_its_decoder_takes_is_unsupported_by_that_name(size: tuple[int, int]) -> None:
    assert complaint(announcing(".jpg", *size)) == (
        f"unsupported: the content is a JPEG image of {size[0]} x {size[1]} pixels, of which OpenCV reads 65500 a side "
        "at most"
    )


def bmp_of_os2(width: int, height: int) -> bytes:
    row = bytes(-(-3 * width // 4) * 4)
    return b"BM" + struct.pack("<IHHIIHHHH", 26 + len(row) * height, 0, 0, 26, 12, width, height, 1, 24) + row * height


WRITERS: dict[str, Callable[[int, int], bytes]] = {
    "of OS/2": bmp_of_os2,
    "from the top down": lambda width, height: (
        (data := flat(".bmp", width, height))[:22] + struct.pack("<i", -height) + data[26:]
    ),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("size", [(1, 1), (9, 8), (40_000, 2)])
def test_a_bmp_of_another_header_has_its_size(write: Callable[[int, int], bytes], size: tuple[int, int]) -> None:
    width, height = size
    assert made_of(write(width, height)) == (Header(width, height, 3, 8), (height, width, 3))
