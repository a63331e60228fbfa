"""States of streams as JSON, and which stream may go on from which."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asyncfetch.errors import PlanMismatch, UsageError
from asyncfetch.streams.plan import Shard
from asyncfetch.streams.progress import Checkpoint

if TYPE_CHECKING:
    from asyncfetch.streams.plan import Plan

_VERSION = 2
_MOST_BITMAP = 16 << 20  # bytes; a stream's own bitmap has as many bits as items may overtake one, a few thousand


def to_state(point: Checkpoint, plan: Plan) -> dict[str, Any]:
    """A checkpoint as what JSON can say. The seed is there for people; the plan's digest holds it too."""
    return {
        "version": _VERSION,
        "plan": point.plan,
        "seed": None if plan.shuffle is None else plan.shuffle.seed,
        "shard": [point.shard.index, point.shard.count, point.shard.uneven],
        "epoch": point.epoch,
        "start": point.start,
        "low": point.low,
        "above": _bitmap(point),
        "prefix": None if point.prefix is None else point.prefix.hex(),
        "before": point.before.hex(),
        "left_by": [to_state(state, plan) for state in point.left_by],
    }


def from_state(state: Any) -> Checkpoint:
    """Reads what `to_state` wrote. Raises `UsageError` for anything else."""
    try:
        if state["version"] != _VERSION:
            raise UsageError(f"A state of version {state['version']} cannot be read here, only {_VERSION}")
        low = _number(state["low"])
        prefix = state["prefix"]
        return Checkpoint(
            plan=str(state["plan"]),
            shard=Shard(*state["shard"]),
            epoch=_number(state["epoch"]),
            start=_number(state["start"], low),
            low=low,
            above=frozenset(_places(state["above"], low)),
            prefix=None if prefix is None else bytes.fromhex(prefix),
            before=bytes.fromhex(state["before"]),
            left_by=tuple(from_state(inner) for inner in state["left_by"]),
        )
    except (KeyError, TypeError, ValueError, zlib.error, binascii.Error) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("This is not the state of a stream", remedy="Pass what state() gave.") from None


def point_of(states: Any, plan: Plan, digest: str, *, indexed: bool) -> Checkpoint:
    """The checkpoint that a stream goes on from: its own, or one over what all shards of another number left.

    Raises `PlanMismatch` for a state of another plan, and `UsageError` for states that do not make a whole.
    """
    if isinstance(states, Mapping):
        states = [states]
    elif not isinstance(states, Sequence) or not states:
        raise UsageError("resume takes a state, or the states of all shards")
    points = sorted((from_state(state) for state in states), key=lambda point: point.shard.index)
    if any(point.plan != digest for point in points):
        raise PlanMismatch("The state is of another plan, or of other sources")
    shard, shards = plan.shard, [point.shard for point in points]
    if len({(other.count, other.uneven) for other in shards}) > 1:
        raise UsageError("These are states of shards of several kinds", remedy="Pass those of one number of shards.")
    twice, times = Counter(shards).most_common(1)[0]
    if times > 1:
        raise UsageError(f"There are {times} states of {twice}", remedy="Pass the latest of each shard.")
    own = [point for point in points if point.shard == shard]
    if own:
        return own[0]
    if "pad" in (shard.uneven, shards[0].uneven):
        raise UsageError(
            f"Padded shards repeat items, so what {shards[0]} left cannot be divided among {shard.count} anew",
            remedy="Go on with as many shards, or take uneven='keep' or 'drop'.",
        )
    if not indexed:
        raise UsageError(
            "Sources without an index cannot be divided anew", remedy="Go on with as many shards, or pass a list."
        )
    if [other.index for other in shards] != list(range(shards[0].count)):
        given = ", ".join(str(other.index) for other in shards)
        raise UsageError(f"All {shards[0].count} shards must be there to be divided anew, not only {given}")
    if len({point.left_by for point in points}) > 1:
        raise UsageError("These shards did not go on from the same states")
    return Checkpoint(digest, shard, epoch=min(point.epoch for point in points), left_by=tuple(points))


def _bitmap(point: Checkpoint) -> str:
    """Bit k stands for place `low + k`; deflated, because it is all but full."""
    bits = bytearray((max(point.above, default=point.low) - point.low) // 8 + 1)
    for place in point.above:
        bits[(place - point.low) // 8] |= 1 << (place - point.low) % 8
    return base64.b64encode(zlib.compress(bits)).decode() if point.above else ""


def _places(text: str, low: int) -> list[int]:
    if not text:
        return []
    inflate = zlib.decompressobj()
    bits = inflate.decompress(base64.b64decode(text, validate=True), _MOST_BITMAP)
    if not inflate.eof:
        raise ValueError(text)
    return [low + 8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1]


def _number(value: Any, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (most is not None and value > most):
        raise ValueError(value)
    return value
