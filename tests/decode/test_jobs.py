"""Options are checked when they are made."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from asyncfetch.decode import DecodeOptions, ImageOptions
from asyncfetch.errors import UsageError


def test_rgb_in_full_size_is_the_default() -> None:
    assert DecodeOptions() == DecodeOptions(color="rgb", max_size=None)


@pytest.mark.parametrize("color", ["RGB", "grey", "", None, 3])
def test_another_colour_is_refused_by_name(color: Any) -> None:
    with pytest.raises(UsageError, match="color must be 'rgb', 'bgr', 'gray' or 'unchanged', not"):
        DecodeOptions(color=color)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype must be 'uint8', 'uint16', 'float32' or 'unchanged', not 'int8'"),
        ({"layout": "nchw"}, "layout must be 'hwc' or 'chw', not 'nchw'"),
        ({"page": -1}, "page must be the number of a page, 0 or more, not -1"),
        ({"page": True}, "page must be"),
        ({"page": 65_536}, "page must be"),
    ],
)
def test_other_words_and_pages_are_refused_by_name(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DecodeOptions(**options)


def test_the_dtype_is_eight_bits_unless_everything_stays_as_it_is() -> None:
    assert DecodeOptions(color="gray").form.dtype == "uint8"
    assert DecodeOptions(color="unchanged").form.dtype == "unchanged"
    assert DecodeOptions(color="unchanged", dtype="float32").form.dtype == "float32"


def test_every_option_is_a_keyword_of_the_users() -> None:
    assert set(ImageOptions.__annotations__) == {
        field.name for field in dataclasses.fields(DecodeOptions) if field.init
    }


@pytest.mark.parametrize("max_size", [0, -1, 1.5, True, "256"])
def test_a_max_size_that_is_no_number_of_pixels_is_refused(max_size: Any) -> None:
    with pytest.raises(UsageError, match="max_size must be"):
        DecodeOptions(max_size=max_size)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (DecodeOptions(), None),
        (DecodeOptions(max_size=100), 30_000),
        (DecodeOptions(color="gray", max_size=100), 10_000),
        (DecodeOptions(color="unchanged", max_size=100), None),
        (DecodeOptions(dtype="float32", max_size=100), 120_000),
        (DecodeOptions(dtype="unchanged", max_size=100), None),
    ],
)
def test_max_size_bounds_the_memory_where_the_dtype_is_known(options: DecodeOptions, most: int | None) -> None:
    assert options.most_bytes == most


def test_options_can_be_pickled() -> None:
    options = DecodeOptions(color="gray", max_size=64)
    assert pickle.loads(pickle.dumps(options)) == options
