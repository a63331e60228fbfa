"""The workers of a pool: hired as there is work for one more, and given up for a while where none of them starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.decode.process import WorkerProcess

_MOST_BARREN = 3  # workers in a row that died without having begun an image
_RETRY_SECONDS = 5.0  # until another is tried after that: what kept them from starting may be over


class Crew:
    """Up to `most` workers, each started by `start`, which raises `OSError`."""

    def __init__(self, most: int, start: Callable[[], WorkerProcess]) -> None:
        self.workers: list[WorkerProcess] = []
        self.expected = 0  # jobs that will come, until there are workers for them
        self.died = 0
        self._most = most
        self._start = start
        self._barren = 0
        self._gave_up_at = 0.0
        self._last_fate = ""

    @property
    def idle(self) -> bool:
        """Whether nobody has anything to do."""
        return not any(worker.sent for worker in self.workers)

    @property
    def settled(self) -> bool:
        """Whether nobody is starting."""
        return not any(worker.is_starting for worker in self.workers)

    def hire(self, waiting: int, now: float) -> bool:
        """Starts a worker if there is work for one more, and says whether to ask again.

        One a round of the loop: starting takes it a few milliseconds.
        """
        if self._barren >= _MOST_BARREN:
            self._gave_up_at = self._gave_up_at or now
            if now - self._gave_up_at > _RETRY_SECONDS:
                self._gave_up_at, self._barren = 0.0, _MOST_BARREN - 1
        if len(self.workers) < self._most and self._barren < _MOST_BARREN:
            jobs = max(waiting + sum(worker.load for worker in self.workers), self.expected)
            if len(self.workers) < jobs:
                try:
                    self.workers.append(self._start())
                except OSError as error:
                    self._barren += 1
                    self._last_fate = f"could not be started: {error}"
                return True
        self.expected = 0
        return False

    def gave_up(self) -> str | None:
        """What became of the last one, where none has started, and nobody is left."""
        return self._last_fate if self._barren >= _MOST_BARREN and not self.workers else None

    def heard(self, worker: WorkerProcess) -> None:
        """Hears that a worker has answered: they start."""
        if not worker.answered:
            worker.answered = True
            self._gave_up_at, self._barren = 0.0, 0

    def lose(self, worker: WorkerProcess, fate: str, *, at_an_image: bool) -> None:
        """Hears that a worker has ended unasked."""
        self.workers.remove(worker)
        self.died += 1
        if not at_an_image and not worker.answered:
            self._barren += _MOST_BARREN if worker.hung else 1  # nobody waits for two others as long
            self._last_fate = fate
