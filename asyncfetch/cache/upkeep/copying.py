"""A copy of a cache, or of a part of it, in another directory: an export that goes straight into an import."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from asyncfetch.cache.upkeep.exporting import Refused, export
from asyncfetch.cache.upkeep.importing import import_

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.cache.upkeep.exporting import Carried, Objects
    from asyncfetch.cache.upkeep.selection import Selection
    from asyncfetch.cache.upkeep.session import Upkeep


def copy(keeping: Upkeep, target: Upkeep, selection: Selection) -> Iterator[Carried | Objects | Refused]:
    """Copies the objects that are meant into another cache, each blob checked on its way, and tells each.

    Raises what `export` and `import_` raise. Left early, what came stays, and another copy passes over it.
    """
    reading, writing = os.pipe()
    refused: list[Refused] = []
    failed: list[BaseException] = []

    def send() -> None:
        try:
            with open(writing, "wb", buffering=1 << 16) as sink:  # noqa: PTH123 - no path
                refused.extend(step for step in export(keeping, sink, selection) if isinstance(step, Refused))
        except BrokenPipeError:
            pass  # nobody takes it any more, for a reason that is told there
        except BaseException as error:
            failed.append(error)

    sender = threading.Thread(target=send, name="asyncfetch-export", daemon=True)
    sender.start()
    try:
        with open(reading, "rb") as source:  # noqa: PTH123 - no path
            yield from import_(target, source)
    finally:
        sender.join()
    if failed:
        raise failed[0]
    yield from refused
