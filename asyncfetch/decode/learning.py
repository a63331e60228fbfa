"""What workers read in headers, told to whoever keeps it for the next time: of images that nobody knew it of."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncfetch.decode.jobs import DecodeJob

_header, _private = attrgetter("header"), attrgetter("private")


class Learning:
    """`tell` is called with a digest and a number (see `summary`); without it nothing is asked of workers."""

    def __init__(self, tell: Callable[[str, int], None] | None) -> None:
        self._tell = tell

    def lacks(self, group: Sequence[DecodeJob]) -> bool:
        """Whether a worker is to say what the headers of these say: where an image's size tells little of the next.

        To keep them costs 8 us an image, for nothing where all are alike.
        """
        first = group[0]
        if self._tell is None or first.digest is None or first.manner is None or not first.manner.varied:
            return False
        return None in map(_header, group) and not all(map(_private, group))

    def hear(self, jobs: Sequence[DecodeJob], headers: Sequence[Any]) -> None:
        """Takes what a worker said of jobs, of each a number or None. Raises `ValueError` for anything else.

        It also says so unasked where an image needed more memory than was granted for what was kept. That may be the
        few bytes by which one file is larger than others: where sizes differ by more, it is asked the next time.
        """
        for job, header in zip(jobs, headers, strict=True):
            if header is None or header == job.header:
                continue
            if type(header) is not int or header >> 63:
                raise ValueError("a worker has told what is no header")
            manner = job.manner
            if job.header is None and manner is not None and manner.guess and not manner.varied:
                continue
            job.header = header
            if self._tell is not None and job.digest is not None and not job.private:
                self._tell(job.digest, header)
