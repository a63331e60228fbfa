"""A parser and the bytes for it, in pieces, as a transport would bring them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from hypothesis import settings

from asyncfetch.http.parser import ResponseParser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncfetch.http import Response, ResponseHead

MAX_HEAD = 16 << 10
steady = settings(deadline=None)  # on a busy machine an example may take its time
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Into:
    """Has a body go into a sink, or collected without one."""

    def __init__(self, sink: Any = None) -> None:
        self._sink = sink

    def on_head(self, head: ResponseHead) -> Any:
        return self._sink


def new_parser(sink: Any = None, *, to_head: bool = False, max_body: int = 1 << 20) -> ResponseParser:
    parser = ResponseParser(max_head=MAX_HEAD, max_headers=20)
    parser.expect(Into(sink), answers_head=to_head, max_body=max_body)
    return parser


def feed(parser: ResponseParser, pieces: Iterable[bytes]) -> tuple[Response | None, int]:
    """Puts pieces in as a transport would. The response, if whole, and how many bytes were not taken for it."""
    left = memoryview(b"".join(pieces := list(pieces)))
    for piece in pieces:
        end = len(left) - len(piece)
        while len(left) > end:
            room = parser.get_buffer()
            assert len(room) > 0
            count = min(len(room), len(left) - end)
            room[:count] = left[:count]
            left = left[count:]
            response = parser.received(count)
            if response is not None:
                return response, len(left)
    return None, len(left)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]
