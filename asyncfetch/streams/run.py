"""The producing side of a stream: sources in, settled items out, and never more under way than the window allows.

A run holds everything a stream needs, and no run knows its stream, so that a stream which is dropped can end its run.
All of it happens on the loop's thread, in callbacks.

A signal's handler may raise at any call, and the consumer may go on afterwards. So what belongs together is changed by
statements without a call, between which no handler is run: a slot is in its line, or among those that come to the
consumer, or handed out, and is counted as what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asyncfetch.errors import AsyncfetchError, FetcherClosed
from asyncfetch.objects import Failure, Report
from asyncfetch.streams.feed import BATCH, Feed
from asyncfetch.streams.slots import NOWHERE, Joined, Slot
from asyncfetch.streams.sources import read_name, split, text_of
from asyncfetch.streams.tally import Tally
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from asyncfetch.engine import Engine, Landed
    from asyncfetch.objects import ObjectStat
    from asyncfetch.streams.order import Placed, Reading
    from asyncfetch.streams.outcomes import Outcomes
    from asyncfetch.streams.progress import Progress
    from asyncfetch.streams.window import Window

T = TypeVar("T")

_GROUP = 32  # items that are taken at a time for one who steps from item to item
# Places between the first item that is not there and the last that was read, where the order is that of completion: one
# that takes its minutes must not let the memory of those that overtook it grow without end.
_MOST_SPREAD = 1 << 16

_SAMPLE = 32  # objects whose sizes say how many of them may wait on disk

_place_and_mark = attrgetter("place", "mark")


class Run(ABC, Generic[T]):
    """One pass over a plan. `progress` hears of the places that were handed out.

    A consumer takes all that is there of a batch, or steps from item to item. Then several are taken at a time all the
    same, and what was handed out of them is counted before the next are taken, or when somebody asks: a third of what a
    step costs is the same for all.
    """

    def __init__(
        self,
        engine: Engine,
        reading: Reading,
        progress: Progress,
        *,
        in_order: bool,
        open_outcomes: Callable[[], Outcomes],
        private: bool,
        window: Window,
        batch: int = 0,
    ) -> None:
        self.private = private
        self.batch = batch  # items that the consumer takes at a time; 0: one by one
        self.closed = False
        self._gone = False  # closed to its end
        self.engine = engine
        self._progress = progress
        self.feed = Feed(engine, reading, room=self._room, deliver=self.deliver, ended=self._wake)
        self.in_order = in_order
        self.outcomes = open_outcomes()
        self._window = window
        self._within = within = window.items + window.batches * batch  # items that may always be read ahead
        self._worth = min(BATCH, within // 2 or 1)  # places for which it is worth reading on
        self._group = max(1, min(_GROUP, within // 8))  # items taken at a time; the others keep the way to them busy
        self._line: deque[Slot[T]] = deque()  # slots in the order of the plan, until they are taken
        self._ready: deque[Slot[T]] = deque()  # settled slots in the order of completion, where that is asked for
        self._outstanding = 0
        self._waiter: asyncio.Future[None] | None = None
        # Whether the consumer is behind: it did not wait for what it took last, or is busy while something comes.
        self.late = True
        self.spilled = False  # whether there are objects that the cache had no room for
        self.awaited: Slot[T] | None = None  # the slot that the consumer waits for, while it does
        self.held: list[Slot[T]] = []  # what was taken and has a file of its own, which goes with the next step
        self.coming: deque[Slot[T]] = deque()  # what was taken out of its line, and not yet by the consumer
        self._unread = 0  # how many of these, the last, have made no room for others
        self._stepped: list[Slot[T]] = []  # what one who steps from item to item got, and is not counted
        self.consumer_seconds = 0.0  # that the consumer spent on items
        self._served: set[str] = set()  # schemes that have an origin
        self._tally = Tally(engine)
        engine.runs.add(self)

    # For the stream

    def take(self, most: int) -> list[Slot[T]]:
        """The slots of the next items, `most` of them; none while the next is not there.

        Raises what a failure means, if that is an error. They are `coming` until the consumer empties that, and do not
        count as handed out before `hand_over`.
        """
        coming = self.coming
        while len(coming) < most and self._bring(most - len(coming)):
            pass
        found = list(coming)
        if self._unread:
            landed = _landed(found[-self._unread :])
            self._tally.landed += landed
            self._outstanding -= self._unread
            self._unread = 0
            self._read_on()
        self.late = True
        return found

    def step(self) -> Slot[T] | None:
        """The slot of the next item, for `step_over`; None while it is not there. Raises as `take` does."""
        coming = self.coming
        if self.held:
            self.let_go([slot for slot in self.held if slot not in coming])
        if not coming:
            self.count_steps()
            if not self._bring(self._group):
                return None
        if self._unread and len(coming) == 1:
            self._outstanding -= self._unread
            self._unread = 0
            self._read_on()
            self.late = True
        return coming[0]

    def step_over(self, slot: Slot[T]) -> None:
        """Takes the slot of a step as handed out: whoever calls this returns its item, and calls nothing before."""
        slot.result = None
        self._stepped += (slot,)
        del self.coming[0]

    def count_steps(self) -> None:
        """Counts what was handed out step by step; the last may be taken back."""
        if self._stepped:
            self._progress.step_over(list(map(_place_and_mark, self._stepped)))
            landed = _landed(self._stepped)
            self._stepped = []
            self._tally.landed += landed

    def hand_over(self, slots: Iterable[Slot[T]]) -> None:
        """Counts slots that were taken as handed out."""
        self._progress.hand_over(list(map(_place_and_mark, slots)))

    def let_go(self, slots: Sequence[Slot[T]]) -> None:
        """Ends what is held in slots: private files go."""
        if self.held:
            let_go = set(slots)
            gone = [slot for slot in self.held if slot in let_go]
            self.held = [slot for slot in self.held if slot not in let_go]
            for slot in gone:
                self._discard(slot)

    def finish(self) -> None:
        """Raises what the sources raised, and what stands against the run as a whole."""
        if self.feed.error is not None:
            raise self.feed.error
        self.outcomes.ended(self._tally.failed, self._tally.items)

    @property
    def exhausted(self) -> bool:
        """Whether every source has been read and every item taken; or nobody knows what has been read."""
        return self.feed.over and (not self._outstanding or self.feed.broken)

    async def wait(self) -> None:
        """Returns when `take` is worth another try. Cancelled, nothing has changed."""
        waiter = self._waiter = self.engine.loop.create_future()
        self.late = False
        self._read_on()
        self._urge()
        try:
            await waiter
            self.engine.loop.call_soon(self.hurry)  # by then it waits for the next, or is busy
        finally:
            self._waiter = self.awaited = None

    def close(self) -> None:
        """Lets go of everything under way. May be called again; where it was interrupted, it is to be."""
        if self._gone:
            return
        self.closed = True
        self.feed.close()
        self.count_steps()
        self.outcomes.close()
        self._tally.finish()
        held = set(self.held)
        self.let_go(self.held)
        left = [slot for slot in self._line if not slot.taken]
        for slot in left:
            self.engine.flights.abandon(slot)
            self.dropped(slot)
            slot.result = None
            if slot not in held:  # as one is that an interrupt kept from coming
                self._discard(slot)
        self._line.clear()
        self.coming.clear()
        self._ready.clear()
        self._outstanding = self._unread = 0
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(FetcherClosed("The stream was closed while an item was awaited"))
        self._gone = True

    def report(self) -> Report:
        """What has been taken so far."""
        self.count_steps()
        return self._tally.report(consumer=self.consumer_seconds, source=self.feed.seconds)

    # For slots and for kinds of runs

    def deliver(self, batch: list[Placed]) -> None:
        """Takes sources that were read."""
        slots = [slot for placed in batch if (slot := self._admit(placed)).result is None]
        self.engine.request(slots)
        if self._waiter is not None and self.awaited is None:
            self._urge()

    def settle(self, slot: Slot[T], result: Any) -> None:
        """Takes what an item is made of, or a failure."""
        slot.result = result
        self.came([slot])

    def came(self, slots: Sequence[Slot[T]]) -> None:
        """Hears of slots that have their results."""
        if not self.in_order:
            self._ready += slots  # before all calls, and by none: an interrupt takes none of them
        elif self._line[0].result is None:
            return
        if self._waiter is not None:
            self._wake()

    def has_come(self, slot: Slot[T]) -> bool:
        """Whether it has heard of a slot, which an interrupt has told again; then it wakes its waiter."""
        if not (slot.taken or (slot.result is not None and slot in self._ready)):
            return False
        self._wake()
        return True

    @abstractmethod
    def make(self, slot: Slot[T], landed: Landed) -> None:
        """Makes the item of an object on disk, at once or later, and settles its slot."""

    def item(self, slot: Slot[T]) -> T:
        """Makes the item of a slot that was taken, or gives what takes its place."""
        item: T = slot.result
        return item

    def slot(self, placed: Placed, payload: Any, uri: str, location: Location, listed: ObjectStat | None) -> Slot[T]:
        """Makes a slot of the kind this run has."""
        return Slot(self, placed, payload, uri, location, listed)

    def together(self, slots: list[Slot[T]]) -> Iterable[tuple[object, list[Slot[T]]]]:
        """Taken slots, by what they share with those they make the best batch with; None where that is no matter."""
        return [(None, slots)]

    def join(self, slots: list[Slot[T]]) -> Joined[T]:
        """Makes a batch of slots that were taken, which are then to be `emptied`."""
        return Joined(slots, [self.item(slot) for slot in slots])

    def emptied(self, slots: list[Slot[T]]) -> None:
        """Lets go of what is in a batch now. It may be called again."""
        for slot in slots:
            slot.result = None

    def taken(self, slots: list[Slot[T]]) -> None:
        """Hears of slots that the consumer is about to take; of some again, after an interrupt."""

    def dropped(self, slot: Slot[T]) -> None:
        """Hears of a slot that nobody will take."""

    def urged(self, slot: Slot[T]) -> None:
        """Hears of the slot that the consumer waits for."""

    def hurry(self) -> None:
        """Goes on for a consumer that is late. To be called when something has come, and by the loop."""
        if not self.closed and self._waiter is None:
            self.late = True
            self._read_on()

    def at_hand(self) -> tuple[int, int]:
        """Of the items that were not taken, how many are on disk at least; and of these, those beside the window."""
        return 0, 0

    def _bring(self, most: int) -> bool:
        """Has the next slots come, as far as they are settled and none is a failure; or what is left of a failure.

        Whether there are any. What an interrupt keeps from coming is in line still.
        """
        while settled := self._settled(most):
            self.held += [
                slot for slot in settled if slot.landed is not None and slot.landed.private and slot not in self.held
            ]
            self.taken(settled)
            first = settled[0]
            if isinstance(first.result, Failure):
                if not first.instead:
                    first.instead = True
                    self._tally.failure(first.result)
                instead = self.outcomes.failed(first.result, self._tally.failed, self._tally.items)
                if instead is None:
                    self._progress.passed([(first.place, first.mark)])
                    self.let_go(settled)
                    self._leave_out(first)
                    continue
                first.result = instead
            self._move(settled)
            return True
        return False

    def _settled(self, most: int) -> list[Slot[T]]:
        """The next slots in line, as far as they are settled; a failure comes alone."""
        found: list[Slot[T]] = []
        for slot in islice(self._line if self.in_order else self._ready, most):
            if slot.result is None or (found and isinstance(slot.result, Failure)):
                break
            found.append(slot)
            if isinstance(slot.result, Failure):
                break
        return found

    def _move(self, settled: list[Slot[T]]) -> None:
        line, coming, by_turns = self._line if self.in_order else self._ready, self.coming, not self.in_order
        for slot in settled:
            slot.taken = by_turns
            coming += (slot,)
            self._unread += 1
            del line[0]
        while self._line and self._line[0].taken:
            del self._line[0]

    def _leave_out(self, slot: Slot[T]) -> None:
        line = self._line if self.in_order else self._ready
        slot.taken = not self.in_order
        slot.result = None
        self._outstanding -= 1
        del line[0]
        while self._line and self._line[0].taken:
            del self._line[0]

    def _discard(self, slot: Slot[T]) -> None:
        if slot.landed is not None and slot.landed.private:
            self.engine.discard(slot.landed)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _urge(self) -> None:
        """Lets the first slot that is not settled go before all others, and overdraw the byte budget if it must."""
        for slot in self._line:
            if not slot.taken and slot.result is None:
                self.awaited = slot
                self.engine.flights.urge(slot)
                self.urged(slot)
                return

    def _room(self) -> int:
        if self.closed or len(self._line) >= _MOST_SPREAD:
            return 0
        room = self._within - self._outstanding
        if self.late and room < self._worth and self._window.deep:
            on_disk, made = self.at_hand()
            room += made
            if room < self._worth and not self.spilled:
                sizes = [slot.landed.size for slot in islice(self._line, _SAMPLE) if slot.landed is not None]
                deepest = self._window.deepest(self.engine.credits.total, sizes)
                # What others fetch waits behind what is on its way, and no longer for this.
                room = min(room + on_disk - made, room + deepest - self._within)
        return room

    def _read_on(self) -> None:
        """Reads on when there is room for a batch: look-ups in batches are what makes a warm pass cheap."""
        likely = self.late or self._within - self._outstanding >= self._worth
        if likely and not self.feed.over and self._room() >= self._worth:
            self._tally.count()
            self.feed.more()

    def _admit(self, placed: Placed) -> Slot[T]:
        self._outstanding += 1
        name = source = placed[2]
        payload = None
        try:
            if type(source) is not str:
                name, payload = split(source)
            uri, location, listed = (name, parse(name), None) if type(name) is str else read_name(name)
            if location.scheme not in self._served:
                self.engine.origin(location)
                self._served.add(location.scheme)
        except AsyncfetchError as error:
            slot = self.slot(placed, payload, text_of(source), NOWHERE, None)
            self._line.append(slot)
            slot.fail("source", error)
        else:
            slot = self.slot(placed, payload, uri, location, listed)
            self._line.append(slot)
        return slot


def _landed(slots: list[Slot[T]]) -> list[Landed]:
    """The objects of slots, for the report; not what takes the place of a failure."""
    return [slot.landed for slot in slots if slot.landed is not None and not slot.instead]
