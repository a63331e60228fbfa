"""What a worker makes of bytes, against OpenCV called directly; and what it says of bytes it can make nothing of."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch.decode import Color, DecodeOptions, codecs
from asyncfetch.decode.headers import read_header
from tests.decode.parts import PHOTOGRAPHS, encode, photograph
from tests.decode.written import png_file

if TYPE_CHECKING:
    from asyncfetch.decode import Pixels

EXTENSIONS = [
    ".jpg",
    ".png",
    ".webp",
    ".gif",
    ".tiff",
    ".bmp",
    ".avif",
    ".jp2",
    ".pbm",
    ".pgm",
    ".ppm",
    ".pam",
    ".pfm",
    ".hdr",
    ".ras",
]
FLAGS = {
    "rgb": cv2.IMREAD_COLOR,
    "bgr": cv2.IMREAD_COLOR,
    "gray": cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
}


def image_in(extension: str) -> bytes:
    image = photograph("chelsea.png", (97, 65))
    if extension in (".pbm", ".pgm"):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if extension in (".pfm", ".hdr"):
        return encode(extension, (image / 255).astype(np.float32))
    return encode(extension, image)


def through_a_slot(data: bytes, color: Color = "rgb", max_size: int | None = None, **options: Any) -> Pixels:
    slot = mmap.mmap(-1, 1 << 22)
    form = DecodeOptions(color=color, max_size=max_size, **options).form
    kind = codecs.check(data[:4096])
    image = codecs.decode(memoryview(data), kind, read_header(kind, memoryview(data), form.page), form)
    placed = codecs.place(image, form, slot)
    assert isinstance(placed, tuple)
    return np.ndarray(*placed, buffer=slot)


def complaint(data: bytes, color: Color = "rgb", **options: Any) -> tuple[str, str]:
    with pytest.raises(codecs.UndecodableError) as caught:
        through_a_slot(data, color, **options)
    return caught.value.word, caught.value.detail


@pytest.mark.parametrize("color", FLAGS)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_comes_out_as_opencv_reads_it(extension: str, color: Color) -> None:
    data = image_in(extension)
    direct = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS[color])
    assert direct is not None
    if color == "rgb":
        direct = cv2.cvtColor(direct, cv2.COLOR_BGR2RGB)
    if extension == ".pfm" and color == "gray":
        direct = cv2.cvtColor(direct, cv2.COLOR_BGR2GRAY)
    pixels = through_a_slot(data, color)
    assert pixels.dtype == direct.dtype
    np.testing.assert_array_equal(pixels, direct)


@pytest.mark.parametrize(
    ("color", "shape"), [("rgb", (65, 97, 3)), ("bgr", (65, 97, 3)), ("gray", (65, 97)), ("unchanged", (65, 97, 3))]
)
def test_shapes_are_as_documented(color: Color, shape: tuple[int, ...]) -> None:
    assert through_a_slot(image_in(".png"), color).shape == shape


def test_unchanged_keeps_alpha_and_sixteen_bits_in_the_order_of_opencv() -> None:
    image = np.zeros((5, 7, 4), np.uint16)
    image[...] = 1000, 2000, 3000, 65535  # blue, green, red, alpha
    np.testing.assert_array_equal(through_a_slot(encode(".png", image), "unchanged"), image)


def test_the_first_page_of_many_is_read() -> None:
    data = (PHOTOGRAPHS / "multipage.tif").read_bytes()
    assert through_a_slot(data, "gray").shape == (15, 10)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_images_are_turned_upright_as_exif_says(orientation: int) -> None:
    plain = encode(".jpg", photograph(size=(64, 48)))
    tiff = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # to the left, in quarters
    np.testing.assert_array_equal(through_a_slot(data), np.rot90(through_a_slot(plain), turns))


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray", "unchanged"])
@pytest.mark.parametrize(
    ("size", "max_size", "shrunk"),
    [((640, 480), 256, (256, 192)), ((480, 640), 100, (75, 100)), ((1000, 3), 10, (10, 1)), ((64, 48), 64, (64, 48))],
)
def test_max_size_shrinks_by_area_and_never_enlarges(
    color: Color, size: tuple[int, int], max_size: int, shrunk: tuple[int, int]
) -> None:
    data = encode(".png", photograph(size=size))
    full = through_a_slot(data, color)
    pixels = through_a_slot(data, color, max_size)
    wanted = full if size == shrunk else cv2.resize(full, shrunk, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(pixels, wanted)


def test_a_slot_too_small_is_told_its_need_and_left_untouched() -> None:
    form = DecodeOptions().form
    data = memoryview(image_in(".png"))
    image = codecs.decode(data, "PNG", read_header("PNG", data), form)
    slot = mmap.mmap(-1, 1024)
    assert codecs.place(image, form, slot) == 97 * 65 * 3
    assert bytes(slot) == bytes(1024)


def test_an_empty_object_is_empty() -> None:
    assert complaint(b"") == ("empty", "the object is empty")


def test_what_is_no_image_is_unsupported_by_the_name_of_what_it_is() -> None:
    word, detail = complaint(b"<html>404</html>")
    assert (word, detail) == ("unsupported", "the content is not an image but an HTML page")


@pytest.mark.parametrize(
    ("extension", "keep", "seen"),
    [
        (".jpg", 0.6, r"JPEG image, but it stops after \d+ bytes without the marker of its end"),
        (".png", 0.6, r"PNG image, but it is truncated in its chunk IDAT, which ends at byte \d+; there are \d+"),
        (".gif", 0.6, r"GIF image, but it stops after \d+ bytes without its trailer"),
        (".webp", 0.6, r"WebP image, but it is truncated: it announces \d+ bytes and has \d+"),
        (".bmp", 0.6, r"BMP image, but it is truncated: it announces \d+ bytes and has \d+"),
        (".avif", 0.6, r"AVIF image, but its box 'mdat' at byte \d+ should end at byte \d+; there are \d+"),
        (".jp2", 0.6, r"JPEG 2000 image, but its box 'jp2c' at byte \d+ should end at byte \d+; there are \d+"),
        (".tiff", 0.6, r"TIFF image, but it is damaged or truncated"),
        (".ppm", 0.6, r"PBM, PGM or PPM image, but it is damaged or truncated"),
    ],
)
def test_a_truncated_image_is_corrupt_and_says_where(extension: str, keep: float, seen: str) -> None:
    whole = image_in(extension)
    word, detail = complaint(whole[: int(len(whole) * keep)])
    assert word == "corrupt"
    assert re.search(seen, detail), detail


def test_a_png_chunk_with_a_wrong_crc_is_named() -> None:
    word, detail = complaint(png_file(2, 2, zlib.compress(bytes(14)), flip=1))
    assert (word, detail) == (
        "corrupt",
        "the content begins as a PNG image, but its chunk IDAT at byte 33 is damaged (wrong CRC)",
    )


def test_a_png_without_its_end_says_so() -> None:
    assert "without its last chunk" in complaint(png_file(2, 2, zlib.compress(bytes(14)))[:-12])[1]


def test_an_image_of_more_pixels_than_the_limit_is_refused_by_that_name() -> None:
    word, detail = complaint(png_file(100_000, 100_000, zlib.compress(b"")))
    assert (word, detail) == ("oversized", "this PNG image has more pixels than the limit")


def test_samples_without_an_eight_bit_form_say_how_they_can_be_read() -> None:
    data = encode(".tiff", np.ones((4, 4, 3), np.float32))
    word, detail = complaint(data)
    assert word == "unsupported"
    assert "float32 samples" in detail
    assert "dtype='float32' reads it" in detail
    assert through_a_slot(data, "unchanged").dtype == np.float32


def test_samples_that_cannot_be_shrunk_say_so() -> None:
    data = encode(".tiff", np.ones((40, 40, 3), np.int32))
    with pytest.raises(codecs.UndecodableError, match="int32 samples, which OpenCV cannot resize"):
        through_a_slot(data, "unchanged", max_size=8)
    assert through_a_slot(data, "unchanged").dtype == np.int32


def test_a_format_that_this_build_lacks_is_unsupported_not_corrupt() -> None:
    word, detail = complaint(b"\xff\x0a" + bytes(100))
    assert word == "unsupported"
    assert "JPEG XL image, which this build of OpenCV does not read" in detail
