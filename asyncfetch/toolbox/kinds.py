"""What the name of an object says of its kind, for prefixes in which images lie among other things."""

from __future__ import annotations

import mimetypes
from typing import Final, Literal

Kind = Literal["image", "other", "unknown"]

_TYPES = mimetypes.MimeTypes()  # without the files of the machine, which differ

# What lies beside images in buckets of data, and is registered by nobody.
_DATA: Final = (
    *(".arrow", ".avro", ".feather", ".orc", ".parquet", ".db", ".sqlite", ".tfrecord"),
    *(".jsonl", ".ndjson", ".log", ".md", ".toml", ".yaml", ".yml", ".lock", ".md5", ".sha256"),
    *(".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".7z", ".rar", ".zst", ".mkv"),
)


def kind_of(name: str) -> Kind:
    """Whether a name's ending stands for an image, for something else, or says nothing."""
    last = name.rpartition("/")[2].lower()
    if last.endswith(_DATA):
        return "other"
    kind, encoding = _TYPES.guess_type(last, strict=False)
    if encoding is not None:  # compressed, as no image is
        return "other"
    if kind is None or kind == "application/octet-stream":
        return "unknown"
    return "image" if kind.startswith("image/") else "other"
