"""Parts and sizes: what is decided, and that shrinking in the JPEG decoder stays within its stated error."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.decode import DecodeOptions, codecs
from asyncfetch.decode.fitting import Part, fit
from asyncfetch.decode.headers import needs, read_header
from asyncfetch.errors import UsageError
from asyncfetch.testing import photographs
from tests.decode.parts import PHOTOGRAPHS, encode, photograph
from tests.decode.test_codecs import complaint, through_a_slot
from tests.decode.written import exif
from tests.soak import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.decode import Pixels
    from asyncfetch.decode.forms import Form

REDUCED = {
    False: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_8),
    True: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_8),
}
sides = st.integers(1, 3000)
sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
fits = st.sampled_from(["fit", "fill", "exact"])


@cache
def jpegs() -> Sequence[bytes]:
    made = [body for name, body in photographs(24) if name.endswith(".jpg")]
    return [*made, *((PHOTOGRAPHS / name).read_bytes() for name in ("rocket.jpg", "retina.jpg"))]


def form_of(**options: Any) -> Form:
    return DecodeOptions(**options).form


@given(sides, sides, st.integers(1, 900))
def test_max_size_keeps_proportions_to_half_a_pixel_and_never_enlarges(width: int, height: int, most: int) -> None:
    fitted = fit(width, height, form_of(max_size=most))
    assert fitted is not None
    assert max(fitted.width, fitted.height) == min(most, max(width, height))
    scale = min(1.0, most / max(width, height))
    assert abs(fitted.width - max(1, width * scale)) <= 0.5
    assert abs(fitted.height - max(1, height * scale)) <= 0.5


@given(sides, sides, sizes, fits)
def test_every_fit_gives_a_part_of_the_image_in_the_size_it_says(
    width: int, height: int, size: tuple[int, int], how: Any
) -> None:
    fitted = fit(width, height, form_of(size=size, fit=how))
    assert fitted is not None
    part = fitted.part
    assert 0 <= part.x <= part.x + part.width <= width
    assert 0 <= part.y <= part.y + part.height <= height
    if how == "fit":
        assert fitted.width <= size[0]
        assert fitted.height <= size[1]
        assert fitted.width == min(width, size[0]) or fitted.height == min(height, size[1])
    else:
        assert (fitted.width, fitted.height) == size
    if how == "fill":
        assert part.width == width or part.height == height
        assert abs(2 * part.x + part.width - width) <= 1
        assert abs(2 * part.y + part.height - height) <= 1
    else:
        assert part == Part(0, 0, width, height)


@given(sides, sides, sizes, fits, st.data())
def test_a_scale_never_makes_less_than_is_wanted_and_its_part_is_whole_pixels(
    width: int, height: int, size: tuple[int, int], how: Any, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    crop = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    form = form_of(size=size, fit=how, crop=data.draw(st.sampled_from([None, crop])))
    plain, scaled = fit(width, height, form), fit(width, height, form, scalable=True)
    assert plain is not None
    assert scaled is not None
    assert (scaled.width, scaled.height) == (plain.width, plain.height)
    if scaled.scale == 1:
        assert scaled == plain
        return
    part = scaled.part.divided(scaled.scale)
    whole = Part(0, 0, width, height).divided(scaled.scale)
    assert part.x + part.width <= whole.width
    assert part.y + part.height <= whole.height
    assert part.width >= scaled.width - 1
    assert part.height >= scaled.height - 1
    if how != "fill":
        assert scaled.part == plain.part
    assert abs(scaled.part.x - plain.part.x) < scaled.scale
    assert scaled.part.width >= 0.98 * plain.part.width
    assert scaled.part.height >= 0.98 * plain.part.height


def test_a_crop_must_lie_in_its_image() -> None:
    assert fit(640, 480, form_of(crop=(600, 0, 40, 480))) is not None
    assert fit(640, 480, form_of(crop=(600, 0, 41, 480))) is None
    word, detail = complaint(encode(".png", photograph(size=(64, 48))), crop=(0, 40, 5, 9))
    assert word == "failed"
    assert detail == "the crop of 5 x 9 pixels at (0, 40) does not lie in its 64 x 48"


# Pixels


@pytest.mark.parametrize("extension", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("color", ["rgb", "gray", "unchanged"])
def test_a_crop_is_that_part_of_the_whole(extension: str, color: Any) -> None:
    data = encode(extension, photograph(size=(97, 65)))
    whole = through_a_slot(data, color)
    np.testing.assert_array_equal(through_a_slot(data, color, crop=(13, 7, 41, 30)), whole[7:37, 13:54])
    planes = through_a_slot(data, "rgb", crop=(13, 7, 41, 30), layout="chw")
    np.testing.assert_array_equal(planes.transpose(1, 2, 0), through_a_slot(data)[7:37, 13:54])


def test_a_crop_is_of_the_upright_image() -> None:
    block = np.frombuffer(exif(6), np.uint8)
    _, data = cv2.imencodeWithMetadata(".jpg", photograph(size=(96, 64)), [cv2.IMAGE_METADATA_EXIF], [block])
    upright = through_a_slot(data.tobytes())
    assert upright.shape == (96, 64, 3)
    np.testing.assert_array_equal(through_a_slot(data.tobytes(), crop=(3, 50, 20, 40)), upright[50:90, 3:23])


@pytest.mark.parametrize("how", ["fill", "exact"])
def test_a_small_image_grows_to_an_exact_size(how: Any) -> None:
    data = encode(".png", photograph(size=(40, 40)))
    grown = through_a_slot(data, "bgr", size=(100, 100), fit=how)
    np.testing.assert_array_equal(grown, cv2.resize(photograph(size=(40, 40)), (100, 100)))
    assert through_a_slot(data, size=(100, 100)).shape == (40, 40, 3)


def whole_then_resized(data: bytes, form: Form) -> Pixels:
    view = memoryview(data)
    whole = codecs.decode(view, "JPEG", read_header("JPEG", view), form_of(color=form.color))
    fitted = fit(whole.shape[1], whole.shape[0], form)
    assert fitted is not None
    x, y, width, height = fitted.part
    part = whole[y : y + height, x : x + width]
    return cv2.resize(part, (fitted.width, fitted.height), interpolation=cv2.INTER_AREA)


def shrunk(data: bytes, form: Form) -> Pixels:
    """What comes of a JPEG that is to shrink in its decoder, and that it does so, and is decoded no second time."""
    view, decoder = memoryview(data), cv2.imdecode
    header, flags = read_header("JPEG", view), list[int]()

    def read(buffer: Any, flag: int) -> Any:
        flags.append(flag)
        return decoder(buffer, flag)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "imdecode", read)
        pixels = codecs.decode(view, "JPEG", header, form)
    fitted = fit(header.width, header.height, form, scalable=True)
    assert fitted is not None
    gray = form.color == "gray" or (form.color == "unchanged" and header.channels == 1)
    assert flags == [REDUCED[gray][(2, 4, 8).index(fitted.scale)]]
    return pixels


@settings(deadline=None, max_examples=examples(40))
@given(
    st.integers(0, 100),
    st.tuples(st.integers(8, 500), st.integers(8, 500)),
    fits,
    st.sampled_from(["bgr", "gray", "unchanged"]),
)
def test_a_jpeg_that_shrinks_in_its_decoder_is_within_the_stated_error(
    number: int, size: tuple[int, int], how: Any, color: Any
) -> None:
    data = jpegs()[number % len(jpegs())]
    form = form_of(color=color, size=size, fit=how)
    view = memoryview(data)
    header = read_header("JPEG", view)
    scaled = fit(header.width, header.height, form, scalable=True)
    assert scaled is not None
    if scaled.scale > 1:
        pixels, wanted = shrunk(data, form), whole_then_resized(data, form)
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).mean() <= 10


@settings(deadline=None, max_examples=examples(30))
@given(st.integers(0, 100), fits, st.sampled_from(["bgr", "gray", "unchanged"]), st.sampled_from([2, 4, 8]), st.data())
def test_a_part_of_a_jpeg_that_shrinks_in_its_decoder_is_within_the_stated_error(
    number: int, how: Any, color: Any, scale: int, data: st.DataObject
) -> None:
    body = jpegs()[number % len(jpegs())]
    header = read_header("JPEG", memoryview(body))
    wide, high = header.width // scale, header.height // scale
    x, y = data.draw(st.integers(0, wide - 8)), data.draw(st.integers(0, high - 8))
    width, height = data.draw(st.integers(8, wide - x)), data.draw(st.integers(8, high - y))
    size = data.draw(st.tuples(st.integers(1, width), st.integers(1, height)))
    form = form_of(color=color, size=size, fit=how, crop=(x * scale, y * scale, width * scale, height * scale))
    fitted = fit(header.width, header.height, form, scalable=True)
    assert fitted is not None
    if how != "fill":
        assert fitted.scale >= scale
    if fitted.scale > 1:
        pixels, wanted = shrunk(body, form), whole_then_resized(body, form)
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).mean() <= 10


def test_over_many_photographs_the_error_is_small_on_average() -> None:
    errors = []
    for data in jpegs():
        for options in ({"max_size": 224}, {"size": (224, 224), "fit": "fill"}, {"size": (100, 60), "fit": "exact"}):
            form, view = form_of(color="bgr", **options), memoryview(data)
            pixels = codecs.decode(view, "JPEG", read_header("JPEG", view), form)
            errors.append(np.abs(pixels.astype(int) - whole_then_resized(data, form)).mean())
    assert np.mean(errors) <= 2


def test_a_turned_jpeg_shrinks_in_its_decoder_too() -> None:
    for orientation in range(1, 9):
        block = np.frombuffer(exif(orientation), np.uint8)
        _, data = cv2.imencodeWithMetadata(".jpg", photograph(size=(640, 400)), [cv2.IMAGE_METADATA_EXIF], [block])
        form = form_of(color="bgr", size=(90, 100), fit="fill")
        pixels = shrunk(data.tobytes(), form)
        assert np.abs(pixels.astype(int) - whole_then_resized(data.tobytes(), form)).mean() < 10


def test_what_shrinks_in_its_decoder_is_charged_for_no_more() -> None:
    data = encode(".jpg", photograph(size=(4000, 3000)))
    header = read_header("JPEG", memoryview(data))
    assert needs("JPEG", header, form_of(), 0).scratch == 2 * 4000 * 3000 * 3
    assert needs("JPEG", header, form_of(max_size=400), 0).scratch == 2 * 500 * 375 * 3
    progressive = encode(".jpg", photograph(size=(4000, 3000)), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    header = read_header("JPEG", memoryview(progressive))
    assert header.progressive
    assert needs("JPEG", header, form_of(max_size=400), 0).scratch == 4000 * 3000 * 6 + 500 * 375 * 3


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (0, 5)}, "size must be"),
        ({"size": 224}, "size must be"),
        ({"size": (224, 224.0)}, "size must be"),
        ({"size": (224, 224), "max_size": 5}, "max_size and size"),
        ({"fit": "cover"}, "fit must be 'fit', 'fill' or 'exact', not 'cover'"),
        ({"crop": (0, 0, 0, 5)}, "crop must be"),
        ({"crop": (-1, 0, 5, 5)}, "crop must be"),
        ({"crop": (0, 0, 5)}, "crop must be"),
        ({"max_size": 1 << 21}, "max_size must be"),
    ],
)
def test_sizes_and_parts_that_mean_nothing_are_refused(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DecodeOptions(**options)
