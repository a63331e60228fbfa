"""URLs that are signed for whoever has them: what of them proves an identity, and is nobody else's to read."""

from __future__ import annotations

import re
from typing import TypeVar

# AWS: "Authenticating Requests: Using Query Parameters" and its older form; CloudFront, Google Cloud Storage, Azure.
_PROOF = re.compile(
    r"([?&;](?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|GoogleAccessId"
    r"|Key-Pair-Id|Policy|sig)=)(?!\.\.\.)[^&;#\s'\"]+",
    re.IGNORECASE,
)


T = TypeVar("T")


def redacted(text: str) -> str:
    """A URL, or a text with URLs in it, with dots in the place of signatures, tokens and access keys."""
    return _PROOF.sub(r"\1...", text) if "=" in text else text


def redacting(cls: type[T]) -> type[T]:
    """A decorator of classes: their `repr` shows a URL as `redacted` does. Their fields have it whole."""
    whole = cls.__repr__

    def show(self: object) -> str:
        return redacted(whole(self))

    cls.__repr__ = show  # type: ignore[method-assign] # what is shown is all that changes
    return cls
