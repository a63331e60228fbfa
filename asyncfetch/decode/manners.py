"""What a pool has learned of images that are wanted alike: how much memory the next one will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form

_MOST_MANNERS = 64
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

    __slots__ = ("form", "guess", "number", "scratch")

    def __init__(self, number: int, form: Form) -> None:
        self.number = number
        self.form = form
        self.guess = 0  # bytes that what the next one becomes will need; 0: nothing is known
        self.scratch = 0  # and beside them while it is made

    def learn(self, size: int, scratch: int, *, count: int = 1) -> None:
        """Moves the guess, with so many images: up at once, down slowly, because too small costs a round."""
        count = min(count, _FORGETTING)
        self.guess = max(size, self.guess - (self.guess - size) * count // _FORGETTING)
        self.scratch = max(scratch, self.scratch - (self.scratch - scratch) * count // _FORGETTING)


class Manners:
    """The manners of a pool; those that were not asked for lately are forgotten."""

    def __init__(self) -> None:
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
            manner = Manner(self._made, wanted.form)
        self._manners[wanted] = manner
        if len(self._manners) > _MOST_MANNERS:
            del self._manners[next(iter(self._manners))]
        self._last = wanted, manner
        return manner
