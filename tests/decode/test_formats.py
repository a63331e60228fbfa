"""Kinds of files, channels, depths, orientations: against OpenCV called directly, or values known from the start."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode import tiff
from asyncfetch.decode.exif import orientation
from tests.decode.parts import PHOTOGRAPHS, encode, photograph
from tests.decode.test_codecs import complaint, through_a_slot
from tests.decode.written import exif, four_channel_jpeg, interlaced_png, palette_png, tiff_file

if TYPE_CHECKING:
    from asyncfetch.decode import Color, Pixels

COLORS: tuple[Color, ...] = ("rgb", "bgr", "gray", "unchanged")


def rgb(image: Pixels) -> Pixels:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def cat() -> Pixels:
    return photograph("chelsea.png", (96, 64))


def test_a_progressive_and_a_gray_jpeg(cat: Pixels) -> None:
    baseline = through_a_slot(encode(".jpg", cat))
    progressive = through_a_slot(encode(".jpg", cat, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    np.testing.assert_array_equal(progressive, baseline)  # the same coefficients in another order
    gray = encode(".jpg", cat[..., 1])
    assert through_a_slot(gray, "unchanged").shape == (64, 96)
    np.testing.assert_array_equal(through_a_slot(gray)[..., 0], through_a_slot(gray, "gray"))


def test_a_cmyk_jpeg_is_mixed_of_its_inks() -> None:
    inks = [(255, 255, 255, 255), (0, 255, 255, 255), (255, 255, 255, 0), (200, 100, 50, 128)]  # inverted: 255 is none
    pixels = through_a_slot(four_channel_jpeg(inks, transform=0))
    assert pixels.shape == (8, 32, 3)
    for index, (c, m, y, k) in enumerate(inks):
        wanted = np.array([c, m, y]) * k / 255
        np.testing.assert_allclose(pixels[4, 8 * index + 4], wanted, atol=2)


def test_a_ycck_jpeg_is_mixed_of_its_inks() -> None:
    blocks = [(255, 128, 128, 255), (100, 128, 128, 255), (76, 85, 255, 255), (200, 128, 128, 128)]
    pixels = through_a_slot(four_channel_jpeg(blocks, transform=2))
    for index, (luma, blue, red, black) in enumerate(blocks):
        # JFIF's equations give the inks' complements, which is what is stored of CMY.
        mixed = [
            luma + 1.402 * (red - 128),
            luma - 0.344 * (blue - 128) - 0.714 * (red - 128),
            luma + 1.772 * (blue - 128),
        ]
        wanted = np.clip(255 - np.clip(mixed, 0, 255), 0, 255)
        np.testing.assert_allclose(pixels[4, 8 * index + 4], wanted * black / 255, atol=3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_interlaced_png_is_the_image(cat: Pixels, channels: int, dtype: Any) -> None:
    image = np.dstack([cat, cat[..., 0]])[:37, :51].astype(dtype) * (257 if dtype is np.uint16 else 1)
    image = image[..., 0] if channels == 1 else image[..., :channels]
    order = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(through_a_slot(interlaced_png(order), "unchanged"), image)


def test_a_palette_is_looked_up_and_its_alphas_are_a_fourth_channel() -> None:
    indices = np.arange(12).reshape(3, 4) % 3
    colors = [(255, 0, 0), (1, 2, 3), (40, 50, 60)]
    wanted = np.array(colors, np.uint8)[indices]
    np.testing.assert_array_equal(through_a_slot(palette_png(indices, colors)), wanted)
    clear = through_a_slot(palette_png(indices, colors, b"\x00\x80"), "unchanged")
    np.testing.assert_array_equal(clear[..., 3], np.array([0, 128, 255], np.uint8)[indices])


@pytest.mark.parametrize("extension", [".png", ".tiff", ".jp2"])
def test_sixteen_bits_in_every_colour(cat: Pixels, extension: str) -> None:
    deep = cat.astype(np.uint16) * 251 + 7
    data = encode(extension, deep)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    np.testing.assert_array_equal(through_a_slot(data, "bgr", dtype="uint16"), read)
    np.testing.assert_array_equal(through_a_slot(data, "rgb", dtype="uint16"), rgb(read))
    np.testing.assert_array_equal(through_a_slot(data, "rgb", dtype="unchanged"), rgb(read))
    np.testing.assert_allclose(through_a_slot(data, dtype="float32"), rgb(read) / 65535, rtol=1e-6)
    gray = through_a_slot(data, "gray", dtype="uint16")
    assert gray.shape == (64, 96)
    assert gray.dtype == np.uint16


@pytest.mark.parametrize("color", COLORS)
def test_eight_bits_spread_over_sixteen_and_over_one(cat: Pixels, color: Color) -> None:
    data = encode(".png", cat)
    eight = through_a_slot(data, color, dtype="uint8")
    deep = through_a_slot(data, color, dtype="uint16")
    np.testing.assert_array_equal(deep, eight.astype(np.uint16) * 257)
    unit = through_a_slot(data, color, dtype="float32")
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, eight / 255, rtol=1e-6)
    assert through_a_slot(encode(".png", np.full((2, 2, 3), 255, np.uint8)), color, dtype="float32").max() == 1.0


@pytest.mark.parametrize("bits", [10, 12])
def test_a_deep_avif_is_as_found_or_spread(bits: int) -> None:
    white = np.full((32, 32, 3), (1 << bits) - 1, np.uint16)
    data = encode(".avif", white, cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100)
    found = through_a_slot(data, "unchanged")
    assert found.dtype == np.uint16
    assert (1 << bits) - 3 < found.max() < 1 << bits
    np.testing.assert_allclose(through_a_slot(data, dtype="uint16"), 65535, atol=200)
    np.testing.assert_allclose(through_a_slot(data, dtype="float32"), 1.0, atol=0.003)
    np.testing.assert_allclose(through_a_slot(data), 255, atol=1)


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_tiff_of_floats_and_integers_keeps_its_values(color: Color, channels: int, dtype: Any) -> None:
    values = np.linspace(-5, 300, 5 * 7 * channels).reshape((5, 7) if channels == 1 else (5, 7, 3)).astype(dtype)
    data = tiff_file(values)
    pixels = through_a_slot(data, color, dtype="float32")
    assert pixels.dtype == np.float32
    if color == "gray":
        plain = values if channels == 1 else values @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(pixels, plain, rtol=1e-5, atol=1e-3)
    else:
        wanted = np.dstack([values] * 3) if channels == 1 else values
        np.testing.assert_allclose(pixels, wanted if color == "rgb" else wanted[..., ::-1], rtol=1e-6)
    assert through_a_slot(data, "unchanged").dtype == dtype
    if color != "gray" or channels == 1:
        assert through_a_slot(data, color, dtype="unchanged").dtype == dtype
    word, detail = complaint(data, color, dtype="uint16")
    assert word == "unsupported"
    assert "dtype='float32' reads it" in detail


def test_a_depth_that_opencv_cannot_make_gray_says_which_it_can() -> None:
    word, detail = complaint(tiff_file(np.ones((4, 4, 3), np.float64)), "gray", dtype="unchanged")
    assert (word, "dtype='float32' can" in detail) == ("unsupported", True)


def test_large_integers_shrink_as_floats() -> None:
    data = tiff_file(np.full((40, 20, 3), 70_000, np.int32))
    np.testing.assert_array_equal(
        through_a_slot(data, dtype="float32", max_size=10), np.full((10, 5, 3), 70_000, np.float32)
    )


@pytest.mark.parametrize("color", COLORS)
def test_pages_of_a_tiff_are_chosen_by_number(cat: Pixels, color: Color) -> None:
    sheets = [cat, cat[:20], cat[:, :30, ::-1].copy()]
    done, data = cv2.imencodemulti(".tiff", sheets)
    assert done
    body = data.tobytes()
    for number, sheet in enumerate(sheets):
        wanted = {"rgb": rgb(sheet), "gray": cv2.cvtColor(sheet, cv2.COLOR_BGR2GRAY)}.get(color, sheet)
        np.testing.assert_allclose(through_a_slot(body, color, page=number), wanted, atol=1 if color == "gray" else 0)
    word, detail = complaint(body, color, page=3)
    assert (word, detail) == ("unsupported", "the content is a TIFF image of 3 pages, without a page 3")


def test_a_page_of_what_has_none_is_refused(cat: Pixels) -> None:
    word, detail = complaint(encode(".png", cat), page=1)
    assert (word, detail) == ("unsupported", "the content is a PNG image, which has no page 1")


def test_the_directories_of_a_tiff_say_what_its_pages_are() -> None:
    data = (PHOTOGRAPHS / "multipage_rgb.tif").read_bytes()
    assert set(tiff.pages(memoryview(data))) == {tiff.Page(10, 10, 3, 64)}
    assert list(tiff.pages(memoryview(tiff_file(np.ones((3, 5), np.uint16))))) == [tiff.Page(5, 3, 1, 16)]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_may_be_read_as_directories(tail: bytes, offset: int) -> None:
    for head in (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"):
        number = struct.pack("<I" if head[:1] == b"I" else ">I", offset)
        assert len(list(tiff.pages(memoryview(head + number + bytes(4) + tail)))) < 300


def test_the_first_frame_of_a_gif_is_given() -> None:
    first = np.zeros((20, 30, 3), np.uint8)
    first[:, :15] = 0, 0, 255
    animation = cv2.Animation()
    animation.frames, animation.durations = [first, 255 - first], [100, 100]
    done, data = cv2.imencodeanimation(".gif", animation)
    assert done
    np.testing.assert_allclose(through_a_slot(data.tobytes()), rgb(first), atol=40)  # as near as its palette comes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".avif"])
def test_every_orientation_is_applied_in_every_colour(cat: Pixels, extension: str, orientation: int) -> None:
    block = np.frombuffer(exif(orientation), np.uint8)
    done, data = cv2.imencodeWithMetadata(extension, cat, [cv2.IMAGE_METADATA_EXIF], [block])
    assert done
    upright = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert upright is not None
    assert upright.shape[:2] == ((64, 96) if orientation < 5 else (96, 64))
    np.testing.assert_array_equal(through_a_slot(data.tobytes(), "unchanged"), upright)
    np.testing.assert_array_equal(through_a_slot(data.tobytes(), "bgr"), upright)
    np.testing.assert_array_equal(through_a_slot(data.tobytes(), "rgb"), rgb(upright))
    np.testing.assert_array_equal(through_a_slot(data.tobytes(), "gray"), cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_orientation_of_a_tiff_is_applied_once(color: Color, dtype: Any) -> None:
    image = np.arange(2 * 3 * 3).reshape(2, 3, 3).astype(dtype)
    turned = through_a_slot(tiff_file(image, orientation=6), color, dtype="unchanged")
    np.testing.assert_array_equal(turned, np.rot90(through_a_slot(tiff_file(image), color, dtype="unchanged"), 3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_block_is_read_in_both_orders_and_with_its_name(order: str) -> None:
    assert orientation(exif(7, order)) == 7
    assert orientation(b"Exif\0\0" + exif(8, order)) == 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_upright(value: int) -> None:
    assert orientation(exif(value)) == 1


@given(st.binary(max_size=60))
def test_any_bytes_may_be_read_as_exif(block: bytes) -> None:
    for head in (b"", b"II*\0", b"MM\0*\0\0\0\x08"):
        assert 1 <= orientation(head + block) <= 8


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_may_come_first(cat: Pixels, color: Color, dtype: str) -> None:
    data = encode(".png", np.dstack([cat, cat[..., 0]]))
    rows = through_a_slot(data, color, dtype=dtype)
    planes = through_a_slot(data, color, dtype=dtype, layout="chw")
    np.testing.assert_array_equal(planes, rows[np.newaxis] if rows.ndim == 2 else rows.transpose(2, 0, 1))
