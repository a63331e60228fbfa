"""What a pool has learned of images that are wanted alike: how much memory the next one will take."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form, Limits
    from asyncfetch.decode.headers import Needs
    from asyncfetch.decode.jobs import DecodeJob

_MOST_MANNERS = 64
_MOST_HEADERS = 1024  # that a manner remembers the needs of, 0.2 MB: to work them out takes 12 us
_FORGETTING = 32  # images until the memory of a larger one has faded to a third


class Wanted(Protocol):
    """How an object becomes what is handed over. Equal ones are one manner."""

    @property
    def form(self) -> Form:
        """The same, for a worker."""
        ...

    @property
    def most_bytes(self) -> int | None:
        """The most bytes that can be handed over, None where nothing bounds them."""
        ...


class Manner:
    """A form as a pool knows it: by a number of its own, with what was learned of it."""

    __slots__ = ("_needs", "form", "guess", "number", "reads_headers", "scratch", "varied")

    def __init__(self, number: int, form: Form, limits: Limits) -> None:
        self.number = number
        self.form = form
        self.reads_headers = form.takes == "pixels"
        self._needs = lru_cache(_MOST_HEADERS)(partial(_needs, form, limits))
        self.guess = 0  # bytes that what the next one becomes will need; 0: nothing is known
        self.scratch = 0  # and beside them while it is made
        self.varied = False  # whether it was far off: the sizes of such images are worth keeping

    def foresee(self, job: DecodeJob) -> None:
        """Has a job need what its header says, as far as that says it. Only a guess too: its worker reads the image."""
        need = self._needs(job.header)
        if need is None:
            job.header = None
            return
        job.need, scratch = need
        job.scratch = scratch + job.size
        if job.row is not None and job.need > job.row.capacity:
            job.row = None

    def learn(self, size: int, scratch: int, *, count: int = 1) -> None:
        """Moves the guess, with so many images: up at once, down slowly, because too small costs a round."""
        if self.guess and (size > self.guess or 2 * size < self.guess or 2 * scratch < self.scratch):
            self.varied = True
        count = min(count, _FORGETTING)
        self.guess = max(size, self.guess - (self.guess - size) * count // _FORGETTING)
        self.scratch = max(scratch, self.scratch - (self.scratch - scratch) * count // _FORGETTING)


class Manners:
    """The manners of a pool; those that were not asked for lately are forgotten."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._manners: dict[Wanted, Manner] = {}  # the one used last comes last
        self._made = 0
        self._last: tuple[Wanted | None, Manner | None] = None, None  # streams want one thing all the time

    def of(self, wanted: Wanted) -> Manner:
        """The manner of what is wanted."""
        last, manner = self._last
        if wanted is last and manner is not None:
            return manner
        manner = self._manners.pop(wanted, None)
        if manner is None:
            self._made += 1
            manner = Manner(self._made, wanted.form, self._limits)
        self._manners[wanted] = manner
        if len(self._manners) > _MOST_MANNERS:
            del self._manners[next(iter(self._manners))]
        self._last = wanted, manner
        return manner


def _needs(form: Form, limits: Limits, kept: object) -> Needs | None:
    # Not above: reading headers takes modules that a process without images of known headers need not load.
    from asyncfetch.decode import summary

    return summary.foresee(kept, form, limits)
