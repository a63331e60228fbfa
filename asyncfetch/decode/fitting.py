"""Which part of an image is wanted, and in which size: decided before anything is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form


class Part(NamedTuple):
    """A rectangle of an image, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def divided(self, scale: int) -> Part:
        """The same in an image that was decoded at `1 / scale` of its size, whose last pixels may stand for fewer."""
        return Part(self.x // scale, self.y // scale, -(-self.width // scale), -(-self.height // scale))


class Fit(NamedTuple):
    """What is to be done: decode at `1 / scale`, cut out the part (in full size), resize it to width and height."""

    scale: int
    part: Part
    width: int
    height: int


def fit(width: int, height: int, form: Form, *, scalable: bool = False) -> Fit | None:
    """Decides for an upright image of this size; None says that the crop does not lie in it.

    `scalable` says that its decoder can give a half, a quarter or an eighth of the size, as that of JPEG.
    """
    if not (form.crop or form.width or form.max_size):  # asked three times for each image
        return Fit(1, Part(0, 0, width, height), width, height)
    part = Part(*form.crop) if form.crop else Part(0, 0, width, height)
    if part.x + part.width > width or part.y + part.height > height:
        return None
    if form.fit == "fill" and form.width:
        part = _middle(part, form.width, form.height)
    wide, high = _resized(part, form)
    scale = 1
    if scalable:
        fitting = (each for each in (8, 4, 2) if part.width >= each * wide and part.height >= each * high)
        for scale in (*fitting, 1):
            aligned = _aligned(part, scale, width, height)
            if aligned == part:
                break
            if form.fit == "fill" and form.width and _is_near(aligned, part):
                part = aligned
                break
    return Fit(scale, part, wide, high)


def _resized(part: Part, form: Form) -> tuple[int, int]:
    width, height = part.width, part.height
    if form.width and form.fit != "fit":
        return form.width, form.height
    if form.width:
        scale = min(form.width / width, form.height / height)
    else:
        scale = form.max_size / max(width, height) if form.max_size else 1.0
    if scale >= 1:
        return width, height
    return max(1, round(width * scale)), max(1, round(height * scale))


def _middle(part: Part, width: int, height: int) -> Part:
    """The largest part in its middle with the proportions of width and height."""
    wide = min(part.width, max(1, round(part.height * width / height)))
    high = min(part.height, max(1, round(part.width * height / width)))
    return Part(part.x + (part.width - wide) // 2, part.y + (part.height - high) // 2, wide, high)


def _is_near(smaller: Part, part: Part) -> bool:
    """Whether no more than a fiftieth is missing, which nobody sees: a crop in the middle is arbitrary anyway."""
    return 50 * smaller.width >= 49 * part.width and 50 * smaller.height >= 49 * part.height


def _aligned(part: Part, scale: int, width: int, height: int) -> Part:
    """The largest part of it whose edges fall on whole pixels of the scaled image."""
    left, top = -(-part.x // scale) * scale, -(-part.y // scale) * scale
    right, bottom = part.x + part.width, part.y + part.height
    right -= 0 if right == width else right % scale
    bottom -= 0 if bottom == height else bottom % scale
    return Part(left, top, right - left, bottom - top)
