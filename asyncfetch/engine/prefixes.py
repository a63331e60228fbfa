"""Which prefixes of a bucket are refused while the rest of it is not.

S3 limits requests by partition, which is a range of keys, commonly a prefix (AWS: "Best practices design patterns:
optimizing Amazon S3 performance"). Where the partitions lie nobody says. What was granted and refused of late does, as
far as keys have directories: a prefix is told apart where others beside it were refused nothing, and had been asked
often enough for that to be no luck.

Nothing here waits or looks at a clock.
"""

from __future__ import annotations

from typing import NamedTuple

MOST = 512  # answers that are looked at together, and so remembered
FEWEST = 4  # refusals that make a prefix one that is refused
NOW_AND_THEN = 1 / 25  # the share of refusals that is nobody's limit
SUREST = 0.7  # of a share that a few answers tell: one or two that were granted prove nothing
LUCK = 0.01  # the chance with which so many would have been granted in spite of a limit like the other's


class Count(NamedTuple):
    """Answers of one prefix."""

    granted: int
    refused: int

    @property
    def share(self) -> float:
        """Of the refused among all."""
        return self.refused / (self.granted + self.refused)


class Tally:
    """What was granted and refused since a refusal that was sent at `began`; of `MOST` answers at most."""

    __slots__ = ("_answers", "began")

    def __init__(self, began: float) -> None:
        self.began = began
        self._answers: list[tuple[str, bool]] = []

    @property
    def full(self) -> bool:
        """Whether no more is taken."""
        return len(self._answers) == MOST

    def add(self, key: str, *, refused: bool) -> None:
        """Takes one answer, to the request for a key."""
        if not self.full:
            self._answers.append((key[: key.rfind("/") + 1], refused))

    def apart(self) -> dict[str, Count]:
        """The prefixes that are refused, each ending with a slash; none where no part of the bucket is known to be."""
        return _apart("", self._answers)

    def share_of(self, count: Count) -> float:
        """What part of all answers that was."""
        return (count.granted + count.refused) / len(self._answers)


def _apart(prefix: str, answers: list[tuple[str, bool]]) -> dict[str, Count]:
    """The narrowest refused ones below a prefix, to whose directories all `answers` belong."""
    below: dict[str, list[tuple[str, bool]]] = {}
    for answer in answers:
        end = answer[0].find("/", len(prefix)) + 1
        below.setdefault(answer[0][:end], []).append(answer)  # "" are those that lie in the prefix itself
    counts = {child: _count(inside) for child, inside in below.items()}
    refused = [child for child, count in counts.items() if count.refused >= FEWEST and count.share > NOW_AND_THEN]
    if "" in refused or not refused:
        return {}
    if len(counts) > 1:
        worst = min(max(counts[child].share for child in refused), SUREST)
        if not any(_is_free(count, worst) for child, count in counts.items() if child not in refused):
            return {}
        return {
            narrow: count
            for child in refused
            for narrow, count in (_apart(child, below[child]) or {child: counts[child]}).items()
        }
    return _apart(refused[0], answers)


def _count(answers: list[tuple[str, bool]]) -> Count:
    refused = sum(refused for _, refused in answers)
    return Count(len(answers) - refused, refused)


def _is_free(count: Count, share: float) -> bool:
    """Whether a prefix beside one of which such a share is refused knows no limit."""
    return count.share <= NOW_AND_THEN and (1.0 - share) ** (count.granted + count.refused) <= LUCK
