"""The list of bytes that have killed workers too often: they are not decoded again."""

from __future__ import annotations

from typing import Protocol

MOST_STRIKES = 3  # one may be the machine's fault, two a coincidence


class Quarantine(Protocol):
    """Where deaths are noted, by the digest of what was being decoded."""

    def why(self, digest: str) -> str | None:
        """Why these bytes are not decoded any more; None where they are."""
        ...

    def strike(self, digest: str, why: str) -> None:
        """Notes that these bytes have killed a worker, or held it until it was killed."""
        ...


class MemoryQuarantine:
    """A quarantine that ends with its fetcher."""

    def __init__(self) -> None:
        self._strikes: dict[str, list[str]] = {}

    def why(self, digest: str) -> str | None:
        """The last death, once there have been three."""
        strikes = self._strikes.get(digest)
        return strikes[-1] if strikes is not None and len(strikes) >= MOST_STRIKES else None

    def strike(self, digest: str, why: str) -> None:
        """Notes a death."""
        self._strikes.setdefault(digest, []).append(why)
