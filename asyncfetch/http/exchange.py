"""What a request is to the connection that it is on: its bytes, where its answer goes, and who waits for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.http.connection import Connection
    from asyncfetch.http.head import ResponseHead
    from asyncfetch.http.parser import Response
    from asyncfetch.http.sink import Sink

MAX_BODY: Final = 1 << 20  # an error document has a few KiB; who expects more than a usual page of keys says so


class Exchange(ABC):
    """One request on its way. A subclass says what its bytes are, and where the answer goes.

    An object and not two functions, for a request under way is looked at by each collection of garbage: closures would
    more than double what there is to look at.
    """

    __slots__ = ("connection", "future", "max_body", "method")

    def __init__(self, method: str, *, max_body: int = MAX_BODY) -> None:
        self.method = method
        self.max_body = max_body
        self.connection: Connection | None = None
        self.future: asyncio.Future[Response] | None = None  # of whoever waits, while it does

    @abstractmethod
    def build(self) -> bytes:
        """The request's bytes. Called when they are sent, and once more for a repeat."""

    @abstractmethod
    def on_head(self, head: ResponseHead) -> Sink | None:
        """Takes the final head. Gives the sink for the body, or None to have it collected, up to `max_body` bytes."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return self.future is not None and not self.future.done()

    def end(self, response: Response) -> None:
        """Tells who waits, unless it no longer does."""
        if self.future is not None and not self.future.done():
            self.future.set_result(response)

    def fail(self, error: BaseException) -> None:
        """Tells who waits, unless it no longer does."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)
