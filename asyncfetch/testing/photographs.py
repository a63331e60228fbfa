"""Real photographs in any number: crops of those that scikit-image's wheel brings along, encoded anew."""

from __future__ import annotations

import random
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import ExtraMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    _Pixels = npt.NDArray[np.uint8]


def photographs(count: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Gives `count` pairs of a name and an encoded image, in the order of their names.

    Of ten, seven are JPEGs of 640x480 pixels (20 to 170 KB, 80 on average), the others a PNG, a TIFF and a WebP of
    320x240. The same seed, with the same versions of OpenCV and scikit-image, gives the same bytes. They are made as
    they are taken. Raises `ExtraMissing` without scikit-image, which is found and not imported, and `UsageError` for a
    negative count.
    """
    if count < 0:
        raise UsageError(f"count must not be negative, not {count}")
    return _make(_originals(), count, seed)


def demo_objects(count: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Gives `count` photographs and, among them, a text that calls itself an image and an object without bytes."""
    images = photographs(count, seed=seed)
    return _number(_among(images, [(count // 3, "not-an-image.jpg", _TEXT), (2 * count // 3, "empty.jpg", b"")]))


class _Form(NamedTuple):
    """How one object is encoded: extension, width and height in pixels, the qualities to choose from."""

    extension: str
    width: int
    height: int
    qualities: Sequence[int]


_JPEG = _Form(".jpg", 640, 480, (85, 90, 93, 95))
_FORMS = (
    *(_JPEG,) * 3,
    _Form(".png", 320, 240, (1,)),
    *(_JPEG,) * 2,
    _Form(".tiff", 320, 240, (5,)),  # LZW
    *(_JPEG,) * 2,
    _Form(".webp", 320, 240, (75, 90)),
)
_TEXT = b"This object's name ends in .jpg, but it is a text. The run goes on without it.\n"

# The photographs in colour in skimage/data of every wheel since 0.24.
_ORIGINALS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)


def _originals() -> list[Path]:
    found = find_spec("skimage")
    places = (found.submodule_search_locations if found is not None else None) or ()
    paths = [path for place in places for name in _ORIGINALS if (path := Path(place, "data", name)).is_file()]
    if not paths:
        raise ExtraMissing("the photographs of scikit-image are not installed", remedy="pip install 'asyncfetch[demo]'")
    return paths


def _make(originals: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    import cv2

    flags = {
        ".jpg": cv2.IMWRITE_JPEG_QUALITY,
        ".png": cv2.IMWRITE_PNG_COMPRESSION,
        ".tiff": cv2.IMWRITE_TIFF_COMPRESSION,
        ".webp": cv2.IMWRITE_WEBP_QUALITY,
    }
    chance = random.Random(seed)  # noqa: S311 (no secret is made of it)
    pixels: dict[Path, _Pixels] = {}
    for index in range(count):
        path, form = chance.choice(originals), _FORMS[index % len(_FORMS)]
        if path not in pixels:
            pixels[path] = _read(path)
        _, encoded = cv2.imencode(
            form.extension,
            cv2.resize(_crop(pixels[path], chance), (form.width, form.height), interpolation=cv2.INTER_CUBIC),
            (flags[form.extension], chance.choice(form.qualities)),
        )
        yield f"{index:06d}-{path.stem}{form.extension}", encoded.tobytes()


def _read(path: Path) -> _Pixels:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ExtraMissing(f"{path} cannot be read as an image", remedy="Install scikit-image anew.")
    return pixels.astype("uint8", copy=False)


def _crop(pixels: _Pixels, chance: random.Random) -> _Pixels:
    """Cuts 4:3 out of a picture, at least half as wide as would fit."""
    height, width = pixels.shape[:2]
    scale = min(width / 4, height / 3) * chance.uniform(0.5, 1)
    crop_width, crop_height = int(4 * scale), int(3 * scale)
    left, top = chance.randint(0, width - crop_width), chance.randint(0, height - crop_height)
    return pixels[top : top + crop_height, left : left + crop_width]


def _among(images: Iterator[tuple[str, bytes]], bad: Sequence[tuple[int, str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Puts each bad object behind as many images as it says; they come in that order."""
    done = 0
    for place, name, data in bad:
        yield from islice(images, place - done)
        yield name, data
        done = place
    yield from images


def _number(objects: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for index, (name, data) in enumerate(objects):
        yield f"{index:06d}-{name.lstrip('0123456789-')}", data
