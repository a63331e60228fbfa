"""The walk over a JPEG's segments, beside what its decoder finds there."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode import jpeg
from asyncfetch.decode.headers import read_header
from tests.decode.parts import encode, photograph
from tests.decode.written import exif

PLAIN = encode(".jpg", photograph(size=(48, 32)))
EXIF = b"\xff\xe1" + struct.pack(">H", 8 + len(exif(6))) + b"Exif\0\0" + exif(6)


def with_segments(*between: bytes) -> bytes:
    """A photograph with these bytes behind its JFIF segment."""
    at = 4 + struct.unpack_from(">H", PLAIN, 4)[0]
    return PLAIN[:at] + b"".join(between) + PLAIN[at:]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_frame_is_that_of_the_image(channels: int, progressive: bool) -> None:
    image = photograph(size=(48, 32))
    data = encode(".jpg", image if channels == 3 else image[..., 0], cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive))
    assert jpeg.look(memoryview(data)) == (48, 32, channels, progressive, None)


@pytest.mark.parametrize(
    "between",
    [b"", b"\xff\xff\xff", b"\xff\x01", b"some words", b"\xff\x00", b"\xff\xfe\0\x08\xff\xda\xff\xd9!!"],
    ids=["nothing", "fill", "bare marker", "garbage", "stuffing", "comment"],
)
def test_what_a_decoder_passes_over_hides_no_frame(between: bytes) -> None:
    data = with_segments(between, EXIF, between)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (48, 32, 3)  # upright
    found = jpeg.look(memoryview(data))
    assert found.exif == memoryview(exif(6))
    assert (found.width, found.height) == (48, 32)
    header = read_header("JPEG", memoryview(data))
    assert (header.width, header.height) == (32, 48)


def test_the_first_exif_block_counts() -> None:
    data = with_segments(EXIF, EXIF.replace(exif(6), exif(1)))
    found = jpeg.look(memoryview(data))
    assert found.exif == memoryview(exif(6))


@given(st.integers(2, len(PLAIN)))
def test_a_file_cut_anywhere_says_all_or_nothing(end: int) -> None:
    assert jpeg.look(memoryview(PLAIN)[:end]) in ((48, 32, 3, False, None), jpeg.Look())


@pytest.mark.parametrize("length", [0, 1])
def test_a_segment_shorter_than_its_length_ends_the_walk(length: int) -> None:
    assert jpeg.look(memoryview(with_segments(b"\xff\xfe" + struct.pack(">H", length)))) == jpeg.Look()
