"""What became of jobs, until their callers hear of it: in one call of what was answered together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.decode.forms import Pixels
    from asyncfetch.decode.jobs import DecodeJob, Settled
    from asyncfetch.decode.packing import Packed


class Settling:
    """Jobs that are done with. Each is `"sent"`, or cancelled, until its caller hears of it."""

    def __init__(self) -> None:
        self.decoded = self.failed = 0
        self._settled: list[Settled] = []

    def settle(self, job: DecodeJob, outcome: Pixels | Packed | Exception) -> None:
        """Takes what became of a job, which its caller hears of with the next `tell`."""
        if isinstance(outcome, Exception):
            self.failed += 1
        else:
            self.decoded += 1
        job.state = "sent"
        self._settled.append((job, outcome))

    def settle_made(self, made: list[tuple[DecodeJob, Pixels]]) -> None:
        """The same of jobs that are `"sent"` still, with their pixels."""
        self.decoded += len(made)
        self._settled += made

    def tell(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Has callers hear of what was settled. To be called before anything else may happen to the jobs."""
        settled, self._settled = self._settled, []
        heard: list[Settled] = []
        done = None
        for told in settled:
            job = told[0]
            if heard and job.done is not done and job.done != done:
                _call(heard, loop)  # which may cancel others
                heard = []
            if job.state == "sent":  # else it was cancelled
                job.state = "over"
                done = job.done
                heard.append(told)
        if heard:
            _call(heard, loop)


def _call(heard: list[Settled], loop: asyncio.AbstractEventLoop | None) -> None:
    job = heard[0][0]
    try:
        job.done(heard)
    except Exception as error:  # a caller's mistake must not stop the other jobs
        assert loop is not None
        loop.call_exception_handler({"message": f"asyncfetch: the callback for {job.uri} failed", "exception": error})
