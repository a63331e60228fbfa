"""What is kept of an image's header: the same memory follows from it as from the header itself, and nothing worse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.decode.forms import Form, Limits
from asyncfetch.decode.headers import Header, needs, read_header
from asyncfetch.decode.sniff import _IMAGES, identify
from asyncfetch.decode.summary import KINDS, expand, foresee, summarize

from .parts import encode, photograph

LIMITS = Limits(1 << 28, 5 << 30)
sides = st.integers(0, (1 << 20) - 1)
headers = st.builds(Header, sides, sides, st.integers(0, 7), st.integers(0, 64), st.booleans())
forms = st.sampled_from(
    [
        Form(color, dtype, max_size=most, crop=crop)
        for color in ("rgb", "gray", "unchanged")
        for dtype in ("uint8", "uint16", "float32", "unchanged")
        for most in (0, 224)
        for crop in (None, (0, 0, 10, 10))
    ]
)


@given(st.sampled_from(KINDS), headers, st.integers(0, 100))
def test_header_is_found_again_in_its_number(kind: str, header: Header, page: int) -> None:
    number = summarize(kind, header, page)
    assert number is not None
    assert number < 1 << 63  # what an index holds
    assert expand(number) == (kind, header, page if kind == "TIFF" else 0)


def test_every_kind_of_image_has_a_place_in_the_number() -> None:
    assert {name for name, _ in _IMAGES} == set(KINDS)


@pytest.mark.parametrize(
    "header", [Header(1 << 20, 1, 3, 8), Header(1, 1 << 20, 3, 8), Header(1, 1, 8, 8), Header(1, 1, 1, 128)]
)
def test_header_that_is_too_large_for_its_number_has_none(header: Header) -> None:
    assert summarize("PNG", header, 0) is None


def test_page_that_is_too_far_behind_for_its_number_has_none() -> None:
    assert summarize("TIFF", Header(1, 1, 1, 8), 128) is None


@given(
    st.one_of(st.integers(), st.text(), st.binary(), st.none(), st.floats(), st.integers(0, (1 << 63) - 1)),
    forms,
    st.integers(0, 3),
)
def test_whatever_an_index_holds_no_more_memory_follows_than_a_worker_may_take(
    kept: object, form: Form, page: int
) -> None:
    need = foresee(kept, form._replace(page=page), LIMITS)
    if need is not None:
        assert need.scratch <= LIMITS.memory
        assert need.pixels <= LIMITS.pixels * 7 * 16


@given(st.sampled_from(KINDS), headers, forms, st.integers(0, 1 << 30))
def test_the_memory_that_follows_is_what_follows_from_the_header(
    kind: str, header: Header, form: Form, size: int
) -> None:
    found = foresee(summarize(kind, header, 0), form, LIMITS)
    true = needs(kind, header, form, size)
    if header.width * header.height > LIMITS.pixels or true.scratch - size > LIMITS.memory:
        assert found == (0, 0)
    else:
        assert found is not None
        assert (found.pixels, found.scratch + size) == true


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".tiff", ".bmp", ".jp2", ".avif", ".gif"])
def test_headers_of_real_files_have_numbers(extension: str) -> None:
    data = memoryview(encode(extension, photograph(size=(123, 77))))
    kind = identify(bytes(data[:4096])).name
    found = expand(summarize(kind, read_header(kind, data), 0))
    assert found is not None
    assert (found.kind, found.header.width, found.header.height) == (kind, 123, 77)


def test_one_page_says_nothing_of_another() -> None:
    header = Header(640, 480, 3, 8)
    number = summarize("TIFF", header, 1)
    assert foresee(number, Form(), LIMITS) is None
    assert foresee(number, Form(page=1), LIMITS) == needs("TIFF", header, Form(page=1), 0)
    assert foresee(number, Form(page=1, takes="bytes"), LIMITS) is None
