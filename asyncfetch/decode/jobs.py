"""What is asked of the decode pool."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from asyncfetch.checks import count_of, settle_count
from asyncfetch.decode.forms import Call, Form
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode.forms import Pixels
    from asyncfetch.decode.manners import Manner, Wanted
    from asyncfetch.decode.rows import Row

Color: TypeAlias = Literal["rgb", "bgr", "gray", "unchanged"]
Dtype: TypeAlias = Literal["uint8", "uint16", "float32", "unchanged"]
Layout: TypeAlias = Literal["hwc", "chw"]
Fitting: TypeAlias = Literal["fit", "fill", "exact"]
Takes: TypeAlias = Literal["path", "bytes", "pixels"]

_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
_MOST_PAGE = 65_535
_MOST_SIDE = 1 << 20  # OpenCV's own limit


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How an image becomes pixels. All of them are turned upright, as EXIF or TIFF say.

    - `color` `"rgb"` (the default) and `"bgr"` give (H, W, 3), `"gray"` (H, W). `"unchanged"` gives the channels that
      are in the file: (H, W), (H, W, 3) in the order BGR or (H, W, 4) in the order BGRA.
    - `dtype` `"uint8"` is the default and OpenCV's own 8-bit reading, the high bits of deeper samples. `"uint16"` and
      `"float32"` spread unsigned samples of any depth over 0 to 65,535 (8 bits times 257) and 0.0 to 1.0. Floats and
      signed integers have no `"uint8"` or `"uint16"` form and keep their values in `"float32"`. `"unchanged"`, the
      default with `color="unchanged"`, gives samples as they are: a 10-bit AVIF is uint16 of 0 to 1,023.
    - `layout` `"chw"` gives (C, H, W) instead, with C = 1 for gray.
    - `page` counts from 0 and chooses one of a TIFF file. Of other files that hold several images the first is given.
    - `crop` is `(x, y, width, height)` of the part that is wanted, in pixels of the upright image, which must hold it:
      else the image fails with a `DecodeError`.
    - `max_size` is the longest side in pixels. Larger images shrink to it, keeping their proportions; smaller ones stay
      as they are.
    - `size` is `(width, height)`. With `fit="fit"` larger images shrink until both sides fit, and smaller ones stay as
      they are; with `"fill"` the middle of the image, as much as has these proportions, becomes exactly this size; with
      `"exact"` all of it does, in other proportions.

    Images shrink by area averaging and grow by linear interpolation. A JPEG that shrinks to a half or less is decoded
    at a half, a quarter or an eighth of its size first, which is what makes small sizes cheap; what is left to shrink,
    if less than by two, is then interpolated. Against decoding all of it and averaging areas, samples of photographs
    differ by 2 of 255 on average, and by up to 10 on average over an image with fine texture; `"fill"` may take a part
    that is up to a fiftieth smaller, for its edges to fall on whole pixels of the scaled image.

    `transform` is called in the worker with the pixels, an array of its own, and gives another array of numbers, of any
    shape and dtype, which is handed over instead. It may be any callable that cloudpickle can carry: a closure, a
    function of the main script or of a notebook. Modules are imported anew in each worker. For each item `random`,
    `numpy.random`, OpenCV's generator and, once it is imported, PyTorch's of the CPU are seeded from `seed`, the epoch
    and the item's index, so that a run replays whatever worker an item falls to; PyTorch must be imported where the
    transform is defined, not while it runs, and a transform with a generator of its own must seed that by one of these.
    One of Albumentations, such as a `Compose`, is seeded so too, and given the pixels as `image`. With `with_file` a
    transform is called with an `ImageFile` too, for what is in the file beside its pixels.

    Raises `UsageError` for a word that is none of these, for numbers that are no page, size or part, for `max_size`
    beside `size`, and for a transform that cannot be carried.
    """

    color: Color = "rgb"
    dtype: Dtype | None = None
    layout: Layout = "hwc"
    page: int = 0
    max_size: int | None = None
    size: tuple[int, int] | None = None
    fit: Fitting = "fit"
    crop: tuple[int, int, int, int] | None = None
    transform: Callable[..., Pixels] | None = field(default=None, compare=False)
    seed: int = 0
    with_file: bool = False
    _code: bytes = field(default=b"", init=False, repr=False)  # the transform as it travels, by which options compare

    def __post_init__(self) -> None:
        _check_word(self.color, "color", get_args(Color))
        _check_word(self.layout, "layout", get_args(Layout))
        if self.dtype is not None:
            _check_word(self.dtype, "dtype", get_args(Dtype))
        if not settle_count(self, "page", 0, _MOST_PAGE):
            raise UsageError(f"page must be the number of a page, 0 or more, not {self.page!r}")
        if self.max_size is not None and not settle_count(self, "max_size", 1, _MOST_SIDE):
            raise UsageError(f"max_size must be the longest side in pixels, 1 or more, not {self.max_size!r}")
        _check_word(self.fit, "fit", get_args(Fitting))
        if self.size is not None:
            if not _settle_counts(self, "size", (1, 1)):
                raise UsageError(f"size must be (width, height) in pixels, 1 or more each, not {self.size!r}")
            if self.max_size is not None:
                raise UsageError("max_size and size are two ways to say one thing", remedy="Give one of them.")
        elif self.fit != "fit":
            raise UsageError(f"fit={self.fit!r} says how an image comes to have a size", remedy="Give size= too.")
        if self.crop is not None and not _settle_counts(self, "crop", (0, 0, 1, 1)):
            raise UsageError(f"crop must be (x, y, width, height) in pixels, not {self.crop!r}")
        if not settle_count(self, "seed", 0):
            raise UsageError(f"seed must be a whole number, 0 or more, not {self.seed!r}")
        if self.transform is not None:
            object.__setattr__(self, "_code", _carried(self.transform, "transform"))

    @property
    def form(self) -> Form:
        """The same, for a worker."""
        dtype = self.dtype or ("unchanged" if self.color == "unchanged" else "uint8")
        width, height = self.size or (0, 0)
        return Form(
            self.color,
            dtype,
            self.layout,
            self.page,
            self.max_size or 0,
            width,
            height,
            self.fit,
            self.crop,
            base64.b64encode(self._code).decode(),
            self.seed,
            self.with_file,
        )

    @property
    def most_bytes(self) -> int | None:
        """The most bytes the pixels can have, None where nothing bounds them."""
        channels, size = _CHANNELS.get(self.color), _BYTES.get(self.form.dtype)
        width, height = self.size or (self.max_size or 0,) * 2
        if not width or channels is None or size is None or self.transform is not None:
            return None
        return width * height * channels * size


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What is made of an object by functions of the user's, in the worker.

    The first of the `calls` is given the file's path, or all its bytes, or the pixels that `decode` says. What the last
    one gives comes out: an array of numbers, or any `Packed` value.
    """

    takes: Takes
    calls: tuple[Call, ...]
    decode: DecodeOptions = field(default_factory=DecodeOptions)

    @property
    def form(self) -> Form:
        """The same, for a worker."""
        return self.decode.form._replace(takes=self.takes, calls=self.calls)

    @property
    def most_bytes(self) -> int | None:
        """Nothing bounds what a function gives."""
        return None


def call_of(function: Callable[[Any], Any], seed: int) -> Call:
    """Makes ready to be carried what `map` is given. Raises `UsageError` for what cannot be called, or not carried."""
    number = count_of(seed, 0)
    if number is None:
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}")
    return Call(base64.b64encode(_carried(function, "the function of map")).decode(), number)


class ImageOptions(TypedDict, total=False):
    """The fields of `DecodeOptions` as keywords, which is how users say them."""

    color: Color
    dtype: Dtype | None
    layout: Layout
    page: int
    max_size: int | None
    size: tuple[int, int] | None
    fit: Fitting
    crop: tuple[int, int, int, int] | None
    transform: Callable[..., Pixels] | None
    seed: int
    with_file: bool


# A job, and the Pixels, Packed (where `options` are MapOptions) or exception that it came to.
Settled: TypeAlias = "tuple[DecodeJob, Any]"


@dataclass(slots=True, eq=False)
class DecodeJob:
    """One image wanted from a pool, or what functions make of an object; it may be submitted once.

    `path` is the file, `uri` the name that errors give it, `digest` that of its bytes where it is known, `size` their
    number, and `header` what the pool said of the image's header before, if it is known; of a `private` file it says
    nothing, since nobody keeps that. `epoch` and `index` are what its transform is seeded with. Waiting jobs start by
    `order` (any values that compare with one another), those that are `urgent` first. `done` is called on the loop's
    thread, never from inside `submit`, with jobs that were answered together and what became of each, pixels or an
    exception; once for every job, unless that was cancelled before. `holder` is whatever it wants to find there.
    """

    uri: str
    path: str
    options: Wanted
    order: Any  # only ever compared
    done: Callable[[list[Settled]], None]
    holder: Any = None  # never looked at
    urgent: bool = False
    digest: str | None = None
    epoch: int = 0
    index: int = 0
    row: Row | None = None  # where its pixels are to lie, if they have room there
    size: int = 0
    header: object = None  # a number, or what an index that is damaged holds
    private: bool = False
    # The pool's own notes: the job's number (0: never submitted), what it knows of such images, the bytes that this one
    # is known to need for its pixels and beside them (by its header as it was kept, until it has asked), how often it
    # has asked for these, its place.
    number: int = field(default=0, init=False)
    manner: Manner | None = field(default=None, init=False)
    need: int = field(default=0, init=False)
    scratch: int = field(default=0, init=False)
    asked: int = field(default=0, init=False)
    state: Literal["new", "waiting", "sent", "over"] = field(default="new", init=False)

    @property
    def maps(self) -> bool:
        """Whether functions of the user's say what comes out, and it may be anything."""
        return isinstance(self.options, MapOptions)

    @property
    def transforms(self) -> bool:
        """Whether a function of the user's is called for it, of either sort."""
        return self.maps or (isinstance(self.options, DecodeOptions) and self.options.transform is not None)


def _check_word(value: str, name: str, words: tuple[str, ...]) -> None:
    if value not in words:
        *others, last = map(repr, words)
        raise UsageError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


def _settle_counts(options: DecodeOptions, name: str, least: tuple[int, ...]) -> bool:
    values = getattr(options, name)
    if not isinstance(values, tuple) or len(values) != len(least):
        return False
    numbers = tuple(count_of(value, bound, _MOST_SIDE) for value, bound in zip(values, least, strict=True))
    if None in numbers:
        return False
    object.__setattr__(options, name, numbers)
    return True


def _carried(function: Callable[..., Any], name: str) -> bytes:
    if not callable(function):
        raise UsageError(f"{name} must be callable, not {function!r}")
    import cloudpickle

    try:
        code: bytes = cloudpickle.dumps(function)
    except Exception as error:  # whatever the objects it holds may raise
        raise UsageError(f"{name} {function!r} cannot be sent to a worker: {error}") from error
    return code
