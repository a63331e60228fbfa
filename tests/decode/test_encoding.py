"""Files made of pixels in the workers, and what a transform is told of the file that its pixels come of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from asyncfetch.decode import Encoding, ImageFile
from asyncfetch.errors import TransformFailed, UsageError
from tests.decode.parts import Outcome, decode, expected, photographs

if TYPE_CHECKING:
    from pathlib import Path

    from asyncfetch.decode import DecodePool, Pixels


def read(made: Pixels) -> Pixels:
    pixels = cv2.imdecode(made, cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".png", ".webp"])
async def test_a_worker_hands_over_a_file_instead_of_pixels(pool: DecodePool, tmp_path: Path, extension: str) -> None:
    [path] = photographs(tmp_path, 1)
    made = await decode(pool, path, color="bgr", transform=Encoding(extension, 95))
    assert made.dtype == np.uint8
    assert made.ndim == 1
    again = read(made)[..., ::-1]
    assert np.abs(again.astype(int) - expected(path)).mean() < 4
    assert len(made) < 240 * 320 * 3


def transparent(path: Path) -> Pixels:
    """A picture whose left half is red and opaque, and whose right half is not to be seen."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, :30] = (0, 0, 255, 255)
    cv2.imwrite(str(path), pixels)
    return pixels


@pytest.mark.parametrize("extension", [".png", ".webp"])
async def test_alpha_is_kept_where_there_is_such_a_thing(pool: DecodePool, tmp_path: Path, extension: str) -> None:
    pixels = transparent(path := tmp_path / "half.png")
    made = await decode(pool, path, color="unchanged", dtype="uint8", transform=Encoding(extension, 100))
    again = read(made)
    np.testing.assert_array_equal(again[..., 3], pixels[..., 3])
    assert np.abs(again[:, :29, :3].astype(int) - pixels[:, :29, :3]).max() < 6


async def test_a_jpeg_shows_white_where_there_was_nothing(pool: DecodePool, tmp_path: Path) -> None:
    transparent(path := tmp_path / "half.png")
    made = await decode(pool, path, color="unchanged", dtype="uint8", transform=Encoding(".jpg", 100))
    again = read(made)
    assert again.shape == (40, 60, 3)
    assert again[:, 40:].min() > 250
    assert np.abs(again[:, :20].astype(int) - (0, 0, 255)).max() < 6


async def test_shrunk_alpha_brings_no_color_of_what_is_not_seen(pool: DecodePool, tmp_path: Path) -> None:
    """Black lies under what is transparent; at the edge of white it must not show as gray."""
    pixels = np.zeros((300, 300, 4), np.uint8)
    pixels[:, :155] = 255
    cv2.imwrite(str(path := tmp_path / "edge.png"), pixels)
    shrunk = await decode(pool, path, color="unchanged", dtype="uint8", max_size=30)
    assert shrunk[:, :15, :3].min() == 255
    assert 0 < shrunk[0, 15, 3] < 255, "the edge itself is half transparent"
    assert shrunk[:, 15, :3].min() == 255, "and white"


async def test_gray_stays_gray(pool: DecodePool, tmp_path: Path) -> None:
    cv2.imwrite(str(path := tmp_path / "gray.png"), np.full((20, 30), 77, np.uint8))
    made = await decode(pool, path, color="unchanged", dtype="uint8", transform=Encoding(".jpg"))
    assert read(made).shape == (20, 30)


async def test_what_a_format_cannot_hold_fails_by_name(pool: DecodePool, tmp_path: Path) -> None:
    cv2.imwrite(str(path := tmp_path / "long.png"), np.zeros((1, 70_000), np.uint8))
    error = await Outcome(pool, path, color="bgr", transform=Encoding(".webp")).error()
    assert isinstance(error, TransformFailed)
    assert ".webp cannot hold this image" in str(error)


@pytest.mark.parametrize("wrong", [{"extension": ".gif"}, {"extension": ".jpg", "quality": 0}])
def test_an_encoding_that_means_nothing_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        Encoding(**wrong)


async def test_a_transform_that_asks_for_it_is_given_the_file(pool: DecodePool, tmp_path: Path) -> None:
    [path] = photographs(tmp_path, 1)

    def told(pixels: Pixels, file: ImageFile) -> Pixels:
        assert file.kind == "JPEG"
        return np.array([file.width, file.height, file.channels, file.bits, len(file.data), sum(file.data)])

    body = path.read_bytes()
    got = await decode(pool, path, max_size=80, transform=told, with_file=True)
    assert got.tolist() == [320, 240, 3, 8, len(body), sum(body)]
    error = await Outcome(pool, path, transform=lambda pixels: pixels, with_file=True).error()
    assert isinstance(error, TransformFailed)
