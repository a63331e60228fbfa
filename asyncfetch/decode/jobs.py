"""What is asked of the decode pool, and what the pool asks of its budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

Color: TypeAlias = Literal["rgb", "bgr", "gray", "unchanged"]
Pixels: TypeAlias = "npt.NDArray[Any]"  # the dtype of "unchanged" is the file's own

_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How an image becomes pixels.

    - `color` `"rgb"` (the default) and `"bgr"` give (H, W, 3) uint8, `"gray"` (H, W) uint8, all turned upright as
      EXIF says. `"unchanged"` gives what is in the file, as OpenCV does: (H, W), (H, W, 3) in the order BGR or
      (H, W, 4) in the order BGRA, uint8, uint16 or float32 as a rule, not turned.
    - `max_size` is the longest side in pixels. Larger images shrink to it by area averaging, keeping their proportions;
      smaller ones stay as they are.

    Raises `UsageError` for a colour of another name and for a `max_size` below 1.
    """

    color: Color = "rgb"
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.color not in get_args(Color):
            raise UsageError(f"color must be 'rgb', 'bgr', 'gray' or 'unchanged', not {self.color!r}")
        size = self.max_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise UsageError(f"max_size must be the longest side in pixels, 1 or more, not {size!r}")

    @property
    def most_bytes(self) -> int | None:
        """The most bytes the pixels can have, None where nothing bounds them."""
        if self.max_size is None or self.color == "unchanged":
            return None
        return self.max_size * self.max_size * _CHANNELS[self.color]


@dataclass(slots=True, eq=False)
class DecodeJob:
    """One image wanted from a pool, which may be submitted once.

    `path` is the file, `uri` the name that errors give it. Waiting jobs start by `order` (any values that compare
    with one another), those that are `urgent` first. `done` is called once on the loop's thread, never from inside
    `submit`, with the pixels or with the exception, unless the job was cancelled before.
    """

    uri: str
    path: str
    options: DecodeOptions
    order: Any  # only ever compared
    done: Callable[[Pixels | Exception], None]
    urgent: bool = False
    # The pool's own notes: the job's number (0: never submitted), the bytes its pixels are known to need, its place.
    number: int = field(default=0, init=False)
    need: int = field(default=0, init=False)
    state: Literal["new", "waiting", "sent", "over"] = field(default="new", init=False)


class Grant(Protocol):
    """A share of the byte budget."""

    amount: int

    def delivered(self) -> None:
        """Says that its pixels have reached their user: if it was overdrawn, the next one may overdraw."""
        ...

    def release(self) -> None:
        """Gives the bytes back; twice is once.

        It is called on any thread, also inside a garbage collection, and so may take no lock that its own thread holds.
        """
        ...


class Budget(Protocol):
    """The byte budget that pixels are charged to."""

    @property
    def excess(self) -> int:
        """Bytes lent beyond the budget."""
        ...

    def take(self, amount: int, *, alone: bool = False) -> Grant | None:
        """Lends bytes, or gives None when they are not there now.

        With `alone` it may lend more than there is, while no other undelivered grant does.
        """
        ...
