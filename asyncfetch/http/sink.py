"""Where the bytes of a body go: what whoever wants them has, and the parser fills."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Where a body goes.

    `get_buffer(hint)` gives room, never empty, for some of the `hint` bytes still to come (-1: unknown), and
    `advance(count)` takes the first bytes of that room as written. A loop may ask for room and then find nothing to
    put there; it asks again when there is.

    A sink that can fall behind also has `drain()`. It is asked before room is: None when the sink can take more at
    once, else a future, until which nothing is read from the connection.

    Such a sink may also have `intake(left)`: where the next bytes go, up to `left` of them, while a thread receives
    them (`asyncfetch.http.receivers`), or None. Until that is over the sink is asked nothing else.
    """

    def get_buffer(self, hint: int) -> memoryview: ...

    def advance(self, count: int) -> None: ...
