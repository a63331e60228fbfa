"""What is said of an object when it is written: its type, the user's metadata, and what else S3 can be told."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# "Working with object metadata" (Amazon S3 User Guide): names and values of the user's metadata, together.
_MAX_METADATA = 2048

# What the one who writes says itself, in words of its own or by what it does.
_OURS = frozenset({"Body", "Bucket", "ContentType", "IfMatch", "IfNoneMatch", "Key", "Metadata", "UploadId"})

_TYPES = mimetypes.MimeTypes()  # without the files of the machine, which differ


def described(
    uri: str,
    key: str,
    content_type: str | None,
    metadata: Mapping[str, str] | None,
    extra_args: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The parameters of PutObject, CopyObject or CreateMultipartUpload that describe an object.

    `content_type` None is what the key's ending says. Raises `UsageError` for metadata that no header can hold, and for
    `extra_args` that are not the caller's to give.
    """
    request = dict(extra_args or {})
    for name in request:
        if name in _OURS or name.startswith("Checksum"):
            raise UsageError(f"{uri}: {name} cannot be among extra_args", remedy="The call has a parameter for it.")
    kind = content_type or guessed_type(key)
    if kind is not None:
        request["ContentType"] = kind
    if metadata:
        request["Metadata"] = _checked(uri, metadata)
    return request


def guessed_type(key: str) -> str | None:
    """The media type that a name's ending stands for; None where it says nothing, or that the bytes are compressed."""
    kind, encoding = _TYPES.guess_type(key.rpartition("/")[2], strict=False)
    return kind if encoding is None else None


def _checked(uri: str, metadata: Mapping[str, str]) -> dict[str, str]:
    size = 0
    for name, value in metadata.items():
        for text in (name, value):
            if not isinstance(text, str) or not text.isascii() or not text.isprintable():
                raise UsageError(
                    f"{uri}: the metadata {name!r} is not printable ASCII, which is what headers hold",
                    remedy="Percent-encode it, or write it as JSON with ensure_ascii.",
                )
            size += len(text)
    if size > _MAX_METADATA:
        raise UsageError(f"{uri}: the metadata has {size} bytes, and S3 keeps {_MAX_METADATA} of an object")
    return dict(metadata)
