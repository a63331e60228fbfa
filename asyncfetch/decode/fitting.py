"""The size of what is handed over: decided before anything is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form


def target(width: int, height: int, form: Form) -> tuple[int, int]:
    """The width and height that an image comes out with."""
    longest = max(width, height)
    if not form.max_size or longest <= form.max_size:
        return width, height
    scale = form.max_size / longest
    return max(1, round(width * scale)), max(1, round(height * scale))
