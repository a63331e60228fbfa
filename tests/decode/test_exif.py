"""Dates and orientations that cameras write into files, and nonsense in their places."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.exif import Exif, orientation, read_exif

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WebP", ".avif": "AVIF"}


def block(order: str, first: Mapping[int, int | str], second: Mapping[int, int | str]) -> bytes:
    """A TIFF structure with two directories, the second of which is that of Exif."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    size = 2 + 12 * (len(first) + 1) + 4
    after = 8 + size + 2 + 12 * len(second) + 4
    texts = b""

    def directory(fields: Mapping[int, int | str]) -> bytes:
        nonlocal texts
        out = struct.pack(f"{order}H", len(fields))
        for tag, value in sorted(fields.items()):
            if isinstance(value, int):
                out += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
            else:
                text = value.encode() + b"\0"
                out += struct.pack(f"{order}HHII", tag, 2, len(text), after + len(texts))
                texts += text
        return out + bytes(4)

    one, two = directory({**first, 0x8769: 8 + size}), directory(second)
    return mark + struct.pack(f"{order}I", 8) + one + two + texts


def with_exif(extension: str, exif: bytes) -> bytes:
    _, data = cv2.imencodeWithMetadata(
        extension, np.zeros((8, 8, 3), np.uint8), [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)]
    )
    return bytes(data)


@pytest.mark.parametrize("extension", KINDS)
@pytest.mark.parametrize("order", "<>")
def test_date_and_orientation_are_read(extension: str, order: str) -> None:
    exif = block(
        order,
        {0x0112: 6, 0x0132: "2020:01:01 00:00:00"},
        {0x9003: "2024:05:06 07:08:09", 0x9004: "2023:01:01 00:00:00", 0x9011: "+02:00"},
    )
    found = read_exif(KINDS[extension], memoryview(with_exif(extension, exif)))
    assert found == Exif("2024-05-06T07:08:09+02:00", 6)


def test_a_tiff_file_is_such_a_block_itself() -> None:
    exif = block("<", {0x0112: 3, 0x0132: "2020:01:02 03:04:05"}, {})
    assert read_exif("TIFF", memoryview(exif)) == Exif("2020-01-02T03:04:05", 3)


@pytest.mark.parametrize(
    ("date", "taken"),
    [
        ("2024:05:06 07:08:09", "2024-05-06T07:08:09"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
    ],
)
def test_a_clock_that_was_never_set_gives_no_date(date: str, taken: str | None) -> None:
    exif = block("<", {}, {0x9003: date})
    assert read_exif("TIFF", memoryview(exif)).taken == taken


def test_an_orientation_that_means_nothing_is_none() -> None:
    assert read_exif("TIFF", memoryview(block("<", {0x0112: 9}, {}))).orientation is None


def directory(order: str, *fields: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF structure of one directory, with fields of any type."""
    packed = b"".join(struct.pack(f"{order}HHI", *field[:3]) + field[3] for field in fields)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(fields)) + packed + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "code"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_an_orientation_of_another_type_turns_an_image_in_all_colours_alike(order: str, kind: int, code: str) -> None:
    exif = directory(order, (0x0112, kind, 1, struct.pack(order + code, 6)))
    _, plain = cv2.imencode(".jpg", np.zeros((8, 16, 3), np.uint8))
    data = bytes(plain)[:2] + struct.pack(">2sH", b"\xff\xe1", len(exif) + 8) + b"Exif\0\0" + exif + bytes(plain)[2:]
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    turned = shown.shape[:2] == (16, 8)
    assert read_exif("JPEG", memoryview(data)).orientation == (6 if turned else None)
    assert orientation(exif) == (6 if turned else 1)


def test_what_comes_before_the_end_of_a_block_is_read() -> None:
    fields = (0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x0132, 2, 20, struct.pack("<I", 0))
    for end in range(20, len(directory("<", *fields))):
        exif = directory("<", *fields)[:end]
        assert orientation(exif) == read_exif("TIFF", memoryview(exif)).orientation == 6


def test_the_first_of_two_orientations_counts() -> None:
    exif = directory("<", *[(0x0112, 3, 1, struct.pack("<HH", turn, 0)) for turn in (3, 8)])
    assert orientation(exif) == read_exif("TIFF", memoryview(exif)).orientation == 3


def test_files_without_a_block_say_nothing() -> None:
    for extension, kind in KINDS.items():
        _, data = cv2.imencode(extension, np.zeros((8, 8, 3), np.uint8))
        assert read_exif(kind, memoryview(bytes(data))) == Exif()
    assert read_exif("AVIF", memoryview(b"anything")) == Exif()


@pytest.mark.parametrize("extension", KINDS)
def test_every_truncation_is_survived(extension: str) -> None:
    data = with_exif(extension, block("<", {0x0112: 6}, {0x9003: "2024:05:06 07:08:09"}))
    found = [read_exif(KINDS[extension], memoryview(data)[:end]) for end in range(len(data) + 1)]
    assert found[-1] == Exif("2024-05-06T07:08:09", 6)
    seen = [exif.orientation for exif in found]
    assert all(not (before and not after) for before, after in pairwise(seen)), "what was there stays"


@given(st.sampled_from([*KINDS.values(), "TIFF"]), st.binary(max_size=200), st.booleans())
def test_hostile_bytes_raise_nothing(kind: str, data: bytes, begun: bool) -> None:
    heads = {"JPEG": b"\xff\xd8\xff\xe1\0\x60Exif\0\0II*\0", "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\x50eXIfII*\0"}
    webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + bytes(9) + b"EXIF\x50\0\0\0II*\0"
    head = heads.get(kind, webp if kind == "WebP" else b"MM\0*")
    assert isinstance(read_exif(kind, memoryview((head if begun else b"") + data)), Exif)
