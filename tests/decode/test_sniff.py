"""Content is named by its bytes."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.sniff import HEAD, identify
from tests.decode.parts import PHOTOGRAPHS, encode, photograph

NO_SUCH_KEY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.'
    b"</Message><Key>secret/name</Key></Error>"
)


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(4))
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a.txt", "text")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("extension", "name"),
    [
        (".jpg", "JPEG"),
        (".png", "PNG"),
        (".webp", "WebP"),
        (".gif", "GIF"),
        (".tiff", "TIFF"),
        (".bmp", "BMP"),
        (".avif", "AVIF"),
        (".jp2", "JPEG 2000"),
        (".ppm", "PBM, PGM or PPM"),
        (".pam", "PAM"),
        (".hdr", "Radiance HDR"),
        (".ras", "Sun raster"),
    ],
)
def test_what_opencv_writes_is_named(extension: str, name: str) -> None:
    assert identify(encode(extension, photograph(size=(97, 65)))) == (name, True)


def test_every_photograph_is_known_as_an_image() -> None:
    for path in PHOTOGRAPHS.iterdir():
        if path.suffix in (".png", ".jpg", ".tif", ".gif"):
            assert identify(path.read_bytes()[:HEAD]).is_image, path.name


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page"),
        (b"\r\n <HTML><head>", "an HTML page"),
        (NO_SUCH_KEY, "an XML error document (NoSuchKey)"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML error document (AccessDenied)"),
        (b"<?xml version='1.0'?><feed/>", "an XML document"),
        (b"<?xml version='1.0'?>\n<!-- by hand -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (json.dumps({"a": 1}).encode(), "JSON text"),
        ("label,größe\n".encode(), "text"),
        (b"BM is how this text begins", "text"),
        (b"Papers, please", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not the file it stands for"),
        (b"%PDF-1.7\n", "a PDF document"),
        (archive(), "a ZIP archive (also npz, docx, jar)"),
        (gzip.compress(b"x" * 100, mtime=0), "gzip data"),
        (npy(), "a NumPy array (npy)"),
        (b"\0\0\0\x20ftypisom" + b"\0" * 100, "an MP4 or QuickTime video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\x1a\x45\xdf\xa3" + b"\0" * 20, "a Matroska or WebM video"),
        (b"\0\0\1\0\1\0", "a Windows icon"),
        (b"\x80\x04\x95\0\0", "a Python pickle"),
        (b"\0" * 257 + b"ustar", "a tar archive"),
        (b"\0" * 64, "unknown bytes, 0x0000000000000000…"),
        (b"\xff\xd8", "2 unknown bytes, 0xffd8"),
    ],
)
def test_what_is_no_image_is_named_too(content: bytes, name: str) -> None:
    assert identify(content) == (name, False)


def test_text_that_is_cut_inside_a_character_is_text() -> None:
    assert identify(("x" + "ö" * HEAD).encode()[:HEAD]).name == "text"


def test_text_is_never_quoted() -> None:
    assert "secret" not in identify(NO_SUCH_KEY).name
    assert "secret" not in identify(b"aws_secret_access_key = wJalr").name


@given(st.binary(max_size=300))
def test_any_bytes_get_a_name(content: bytes) -> None:
    kind = identify(content)
    assert kind.name
    assert kind.name.isprintable()


@given(st.binary(min_size=1, max_size=40), st.sampled_from([".jpg", ".png", ".bmp", ".webp", ".gif", ".tiff", ".ppm"]))
def test_opencv_reads_nothing_that_is_called_no_image(tail: bytes, extension: str) -> None:
    whole = encode(extension, np.zeros((4, 4, 3), np.uint8))
    content = whole[: len(whole) - len(tail)] + tail
    if not identify(content[:HEAD]).is_image:
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None
