"""The list of bytes that have killed workers too often: they are not decoded again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.cache import Strikes

MOST_STRIKES = 3  # one may be the machine's fault, two a coincidence


class Record(Protocol):
    """Where deaths are kept beyond this pool and process: the cache."""

    @property
    def strikes(self) -> Mapping[str, Strikes]:
        """What is known by digest, of all processes; what was told a moment ago may not be in it yet."""
        ...

    def strike(self, digest: str, why: str) -> None:
        """Counts one more."""
        ...


class Quarantine:
    """Counts deaths by the digest of what was being decoded; with a `record` it goes on from it, and adds to it."""

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._own: dict[str, tuple[int, str]] = {}  # of this pool, on top of what was recorded then

    def __bool__(self) -> bool:
        """Whether anything is known of any bytes, which there nearly never is."""
        return bool(self._own or (self._record is not None and self._record.strikes))

    def why(self, digest: str | None) -> str | None:
        """Why these bytes are not decoded any more: the last death, once there have been three; None where they are."""
        if digest is None:
            return None
        count, why = self._count(digest)
        return why if count >= MOST_STRIKES else None

    def strike(self, digest: str, why: str) -> None:
        """Notes that these bytes have killed a worker, or held it until it was killed."""
        self._own[digest] = self._count(digest)[0] + 1, why
        if self._record is not None:
            self._record.strike(digest, why)

    def _count(self, digest: str) -> tuple[int, str]:
        own = self._own.get(digest, (0, ""))
        found = self._record.strikes.get(digest) if self._record is not None else None
        return own if found is None or found.deaths <= own[0] else (found.deaths, found.why)
