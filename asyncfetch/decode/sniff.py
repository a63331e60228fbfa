"""What an object is, told by its first bytes: names and Content-Types lie."""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD = 4096  # bytes that `identify` looks at, at most


class Kind(NamedTuple):
    """A kind of content. `is_image` says that OpenCV has a decoder for it, though not in every build."""

    name: str
    is_image: bool


# Every decoder of OpenCV's imgcodecs, each by the signature that it checks itself.
_IMAGES = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("WebP", rb"RIFF....WEBP"),
    ("GIF", rb"GIF8[79]a"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    # The size of the header (Windows' bitmap storage): two letters alone begin many a text.
    ("BMP", rb"BM.{12}[\x0c(4\x38@l|]\0\0\0"),
    ("AVIF", rb"....ftyp(?:avif|avis)|....ftyp(?:mif1|msf1).{4}(?:....){0,14}avi[fs]"),
    ("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("PBM, PGM or PPM", rb"P[1-6]\s"),
    ("PAM", rb"P7\n"),
    ("PFM", rb"P[Ff]\s"),
    ("Radiance HDR", rb"#\?(?:RADIANCE|RGBE)"),
    ("Sun raster", rb"\x59\xa6\x6a\x95"),
    ("OpenEXR", rb"\x76\x2f\x31\x01"),
    ("DICOM", rb".{128}DICM"),
)
_OTHERS = (
    ("a HEIC image", rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)"),
    ("an MP4 or QuickTime video", rb"....(?:ftyp|moov|mdat)"),
    ("a Matroska or WebM video", rb"\x1a\x45\xdf\xa3"),
    ("an AVI video", rb"RIFF....AVI "),
    ("a WAV sound", rb"RIFF....WAVE"),
    ("an Ogg stream", rb"OggS"),
    ("an MP3 sound", rb"ID3"),
    ("a FLAC sound", rb"fLaC"),
    ("a Photoshop document", rb"8BPS"),
    ("a Windows icon", rb"\0\0\x01\0"),
    ("a PDF document", rb"%PDF-"),
    ("a ZIP archive (also npz, docx, jar)", rb"PK(?:\x03\x04|\x05\x06)"),
    ("gzip data", rb"\x1f\x8b"),
    ("Zstandard data", rb"\x28\xb5\x2f\xfd"),
    ("bzip2 data", rb"BZh[1-9]"),
    ("xz data", rb"\xfd7zXZ\0"),
    ("a 7-Zip archive", rb"7z\xbc\xaf\x27\x1c"),
    ("a tar archive", rb".{257}ustar"),
    ("a NumPy array (npy)", rb"\x93NUMPY"),
    ("HDF5 data", rb"\x89HDF\r\n\x1a\n"),
    ("Parquet data", rb"PAR1"),
    ("an ELF program", rb"\x7fELF"),
    ("a Python pickle", rb"\x80[\x02-\x05]"),
    ("a pointer of Git LFS, not the file it stands for", rb"version https://git-lfs"),
)
_MARKUP = (
    ("an SVG drawing", rb"(?:<\?xml.*?)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE svg.*?)?<svg\b"),
    ("an HTML page", rb"(?:<!--.*?-->\s*)*<(?:!DOCTYPE html|html|head|body)\b"),
)


def _compile(kinds: tuple[tuple[str, bytes], ...], *, is_image: bool) -> list[tuple[re.Pattern[bytes], Kind]]:
    return [(re.compile(pattern, re.DOTALL), Kind(name, is_image)) for name, pattern in kinds]


_BINARY = _compile(_IMAGES, is_image=True) + _compile(_OTHERS, is_image=False)
_TAGGED = [(re.compile(pattern, re.DOTALL | re.IGNORECASE), Kind(name, False)) for name, pattern in _MARKUP]
_BLANK = b"\xef\xbb\xbf \t\r\n"
_ERROR_CODE = re.compile(rb"<Error\b.*?<Code>\s*([A-Za-z0-9_.-]{1,64})\s*</Code>", re.DOTALL)
_NO_TEXT = re.compile(r"[^\t\n\f\r\x1b -\U0010ffff]|\x7f")


def identify(head: bytes) -> Kind:
    """Names the content that begins with these bytes, of which the first 4,096 are looked at. Text is never quoted."""
    head = head[:HEAD]
    for pattern, kind in _BINARY:
        if pattern.match(head):
            return kind
    text = head.lstrip(_BLANK)
    for pattern, kind in _TAGGED:
        if pattern.match(text):
            return kind
    if text.startswith((b"<?xml", b"<Error")):
        code = _ERROR_CODE.search(text)
        return Kind(f"an XML error document ({code[1].decode()})" if code else "an XML document", False)
    if _is_text(head):
        return Kind("JSON text" if text[:1] in b"{[" and text[:1] else "text", False)
    return Kind(
        f"unknown bytes, 0x{head[:8].hex()}…" if len(head) > 8 else f"{len(head)} unknown bytes, 0x{head.hex()}", False
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 3:  # else a character is cut by the end of the look
            return False
        text = head[: error.start].decode()
    return not _NO_TEXT.search(text)
