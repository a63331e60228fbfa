"""What the shards of a plan have left over, numbered anew so that another number of shards can share it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from asyncfetch.errors import UsageError
from asyncfetch.streams.plan import Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asyncfetch.streams.progress import Checkpoint


class Rest:
    """The places of each epoch that no shard has handed out, in the order of the plan without shards.

    `whole` is the length of an epoch in that order, `states` are those of all its shards. They may themselves have
    shared what others left over.
    """

    def __init__(self, whole: int, states: tuple[Checkpoint, ...]) -> None:
        self._whole = whole
        self._states = states
        self._inner = Rest(whole, states[0].left_by) if states[0].left_by else None
        self._above = [self._by_epoch(state) for state in states]
        self.first_epoch = min(state.epoch for state in states)
        self.last_epoch = max(epoch for above in self._above for epoch in above)

    def count(self, epoch: int) -> int:
        """How many places of an epoch are left."""
        handed_out = (self._low(state, epoch) + len(above.get(epoch, ())) for state, above in self._shards())
        return self._share(epoch) - sum(handed_out)

    def places(self, epoch: int) -> Iterator[int]:
        """The places of an epoch that are left."""
        shards = [(self._low(state, epoch), above.get(epoch, ())) for state, above in self._shards()]
        start = min(low for low, _ in shards) * len(shards)
        places: Iterable[int] = (
            range(start, self._whole) if self._inner is None else islice(self._inner.places(epoch), start, None)
        )
        for number, place in enumerate(places, start):
            low, above = shards[number % len(shards)]
            if number // len(shards) >= low and number // len(shards) not in above:
                yield place

    def _shards(self) -> Iterable[tuple[Checkpoint, dict[int, set[int]]]]:
        return zip(self._states, self._above, strict=True)

    def _share(self, epoch: int) -> int:
        """How many places of an epoch these shards had between them."""
        return self._whole if self._inner is None else self._inner.count(epoch)

    def _low(self, state: Checkpoint, epoch: int) -> int:
        """How many places of an epoch a shard has handed out without a gap."""
        if epoch == state.epoch:
            return state.low - state.start
        # What an epoch that is over has dropped does not come back.
        return Shard(state.shard.index, state.shard.count).length(self._share(epoch)) if epoch < state.epoch else 0

    def _by_epoch(self, state: Checkpoint) -> dict[int, set[int]]:
        """The places that a shard has handed out beyond a gap, counted within their epochs."""
        epoch, start = state.epoch, state.start
        found: dict[int, set[int]] = {epoch: set()}
        for place in sorted(state.above):
            while place - start >= (length := state.shard.length(self._share(epoch))):
                if not length and epoch > state.epoch + len(state.above):
                    raise UsageError("This state has handed out more than there is")
                start += length
                epoch += 1
            found.setdefault(epoch, set()).add(place - start)
        return found
