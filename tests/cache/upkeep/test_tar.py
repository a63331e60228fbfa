"""The tar of exports: read by others, written by others, and what is no tar."""

from __future__ import annotations

import io
import os
import tarfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache.upkeep.tar import END, BrokenTar, Member, Reader, header, padding


def packed(members: dict[str, bytes]) -> bytes:
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in members.items()) + END


def unpacked(archive: bytes, piece: int = 100) -> dict[str, bytes]:
    found, reader = {}, Reader(io.BytesIO(archive))
    room = memoryview(bytearray(piece))
    for member in reader:
        assert member.plain
        data = b""
        while count := reader.read_into(room):
            data += room[:count]
        assert len(data) == member.size
        found[member.name] = data
    return found


names = st.text("abc/-.0", min_size=1, max_size=100)


@given(st.dictionaries(names, st.binary(max_size=1500), max_size=4), st.integers(1, 600))
def test_what_was_packed_is_read_again_in_pieces_of_any_size(members: dict[str, bytes], piece: int) -> None:
    assert unpacked(packed(members), piece) == members


def test_others_read_it() -> None:
    members = {"blobs/blake3/" + "a" * 64: b"x" * 1000, "empty": b""}
    with tarfile.open(fileobj=io.BytesIO(packed(members)), mode="r:") as archive:
        found = {item.name: (file := archive.extractfile(item)) and file.read() for item in archive}
    assert found == members


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["short", "a" * 60 + "/" + "b" * 90])
def test_what_others_wrote_is_read(form: int, name: str) -> None:
    if form == tarfile.GNU_FORMAT:
        name = name[-90:]  # their longer names are an extension of the format
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        item = tarfile.TarInfo(name)
        item.size = 700
        archive.addfile(item, io.BytesIO(b"y" * 700))
    assert unpacked(file.getvalue()) == {name: b"y" * 700}


def test_a_size_that_octal_digits_cannot_hold_is_read_by_others() -> None:
    size = 3 * 8**11
    assert tarfile.TarInfo.frombuf(header("large", size), "utf-8", "strict").size == size
    assert next(iter(Reader(io.BytesIO(header("large", size))))) == Member("large", size, True)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_plain_file_is_said_to_be_none(kind: bytes) -> None:
    item = tarfile.TarInfo("name")
    item.type, item.linkname = kind, "/etc/passwd"
    archive = item.tobuf(tarfile.USTAR_FORMAT) + packed({"next": b"1"})
    found = [(member.name.rstrip("/"), member.plain) for member in Reader(io.BytesIO(archive))]
    assert found == [("name", False), ("next", True)]


def test_an_archive_that_breaks_off_anywhere_is_not_taken_for_whole() -> None:
    archive = packed({"a": b"x" * 600, "b": b""})[:-512]  # the second block of the end mark is for tape drives
    unpacked(archive)
    for length in range(0, len(archive), 64):
        with pytest.raises(BrokenTar, match="breaks off"):
            unpacked(archive[:length])


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_header_with_one_wrong_byte_is_refused_or_says_the_same(at: int, change: int) -> None:
    archive = bytearray(packed({"a": b"x" * 10}))
    archive[at] ^= change
    try:
        found = unpacked(bytes(archive))
    except BrokenTar:
        return
    assert found == {"a": b"x" * 10}


def test_bytes_that_are_no_tar_are_refused() -> None:
    with pytest.raises(BrokenTar, match="header"):
        unpacked(b"\x89PNG" * 1000)


def test_a_pipe_that_gives_a_little_at_a_time_is_read() -> None:
    archive = packed({"a": b"x" * 5000})
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb", buffering=0) as file:
            for start in range(0, len(archive), 333):
                file.write(archive[start : start + 333])

    thread = threading.Thread(target=feed)
    thread.start()
    with open(reading, "rb", buffering=0) as file:
        reader = Reader(file)
        (size,) = [reader.read_into(memoryview(bytearray(6000))) for _ in reader]
        file.readall()  # the padding, without which the reader is content, and the writer finds the pipe closed
    thread.join()
    assert size == 5000
