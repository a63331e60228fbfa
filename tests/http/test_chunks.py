"""Chunked framing that lies, or spends more than it carries."""

from __future__ import annotations

import tracemalloc

import pytest

from asyncfetch.http import ProtocolError
from asyncfetch.http.head import MAX_LENGTH
from asyncfetch.http.parser import MAX_LINE
from tests.http.feeding import CHUNKED, feed, new_parser
from tests.http.helpers import Collect


@pytest.mark.parametrize(
    "framing",
    [
        b"g\r\n",
        b"-1\r\n",
        b"\r\n",
        b" 1\r\n",
        b"1 x\r\n",
        b"0x1\r\n",
        b"1\n",
        b"1;\x01\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"0\r\nnot a field\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\nA: b\n",
        b"1\r\na\r\r\n",
    ],
)
def test_chunk_framing_that_is_not_is_refused(framing: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(new_parser(), [CHUNKED + framing])


@pytest.mark.parametrize("size", [b"f" * 16, b"f" * 17, b"%x" % (MAX_LENGTH + 1)])
def test_an_absurd_chunk_size_is_refused(size: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(new_parser(Collect()), [CHUNKED + size + b"\r\n"])


def test_chunks_may_not_add_up_to_an_absurd_size() -> None:
    parser = new_parser(Collect(1 << 16))
    feed(parser, [CHUNKED + b"1\r\na\r\n"])
    with pytest.raises(ProtocolError):
        feed(parser, [b"%x\r\n" % MAX_LENGTH])


def test_chunk_sizes_in_the_millions_take_no_memory() -> None:
    sink = Collect(1 << 10)
    parser = new_parser(sink)
    tracemalloc.start()
    try:
        feed(parser, [CHUNKED + b"2faf0800\r\n" + b"x" * 5000])  # 800,000,000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sink.data) == 5000
    assert peak < 100_000
    assert parser.ended() is None
    assert "after 5000 bytes" in str(parser.lost())


def test_framing_is_bounded_in_all_its_parts() -> None:
    feed(new_parser(), [CHUNKED + b"1;" + b"x" * (MAX_LINE - 10) + b"\r\na\r\n"])
    for endless in (b"1;" + b"x" * MAX_LINE, b"0\r\nA: " + b"x" * MAX_LINE):
        with pytest.raises(ProtocolError, match="a line of more than"):
            feed(new_parser(), [CHUNKED + endless])
    for wasteful in ((b"1;" + b"x" * 1000 + b"\r\na\r\n") * 50, b"0\r\n" + b"A: b\r\n" * 3000):
        with pytest.raises(ProtocolError, match="more framing than content"):
            feed(new_parser(), [CHUNKED + wasteful])


def test_the_smallest_chunks_are_no_waste() -> None:
    response, _ = feed(new_parser(), [CHUNKED + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"])
    assert response is not None
    assert response.received == 20_000
