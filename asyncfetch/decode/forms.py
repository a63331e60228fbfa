"""How an image becomes pixels, in the words that travel to a worker; `DecodeOptions` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt

Pixels: TypeAlias = "npt.NDArray[Any]"  # the dtype of "unchanged" is the file's own

MOST_FORMS = 64  # that a worker and its pool remember by number; before the next one both forget all


class Call(NamedTuple):
    """A function of the user's, to be called in a worker."""

    code: str  # pickled, in base64
    seed: int


class Form(NamedTuple):
    """What a worker is told of the pixels that are wanted. All of it is plain data, which JSON carries."""

    color: str = "rgb"
    dtype: str = "uint8"
    layout: str = "hwc"
    page: int = 0
    max_size: int = 0  # 0: any
    width: int = 0  # 0: no size
    height: int = 0
    fit: str = "fit"
    crop: tuple[int, int, int, int] | None = None
    transform: str = ""  # pickled, in base64
    seed: int = 0
    with_file: bool = False
    takes: str = "pixels"  # or "bytes" or "path": what the first of the calls is given
    calls: tuple[Call, ...] = ()  # one after the other, behind the transform; the last may give anything


class ImageFile(NamedTuple):
    """The file that pixels come of, as a transform is given it that asks for it.

    `kind` is its format by its first bytes, such as `"JPEG"`; `width` and `height` are those of the upright image,
    `channels` and `bits` (of a sample) the most that its header says there can be. `data` is the whole file, to be read
    while the transform runs.
    """

    kind: str
    width: int
    height: int
    channels: int
    bits: int
    data: memoryview


class Limits(NamedTuple):
    """What holds for all images of a worker."""

    pixels: int
    memory: int  # bytes beside the slots
