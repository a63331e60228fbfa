"""A file that appears whole or not at all."""

from __future__ import annotations

import errno
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Gives the path of a file to write, which takes the place of `target` in the end, unless that fails.

    What is no plain file, such as /dev/null, is written itself: there is nothing to rename over. An `OSError` of the
    file names the target, which is what its reader knows of.
    """
    part = target.with_name(f".asyncfetch-{secrets.token_hex(8)}.part")
    if target.exists() and not target.is_file():
        part = target
    try:
        yield part
        if part != target:
            part.replace(target)
    except OSError as error:
        if error.filename == str(part) or (error.filename is None and error.errno in _FULL):
            error.filename = str(target)
            error.filename2 = None
        raise
    finally:
        if part != target:
            with suppress(OSError):
                part.unlink()
