"""What an image's header says, as one number: what is kept with a blob for the next time that its image is wanted.

It has 63 bits, so that it costs a row of the cache's index 8 bytes at most, and whoever reads it need not trust it:
every number is some header or none, and all that follows from it is a first guess of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.decode.headers import Header, Needs, needs

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Form, Limits

# In this order they are in indexes: new ones come last.
KINDS = (
    "JPEG",
    "PNG",
    "WebP",
    "GIF",
    "TIFF",
    "BMP",
    "AVIF",
    "JPEG 2000",
    "JPEG XL",
    "PBM, PGM or PPM",
    "PAM",
    "PFM",
    "Radiance HDR",
    "Sun raster",
    "OpenEXR",
    "DICOM",
)
# The bits of each field, from the high end. What does not fit is not kept, and nothing of that size is decoded.
_WIDTH, _HEIGHT, _PAGE, _BITS, _CHANNELS, _PROGRESSIVE, _KIND = _FIELDS = 20, 20, 7, 7, 3, 1, 5


class Summary(NamedTuple):
    """An image's kind and header, and of a TIFF file the page that this is the header of."""

    kind: str
    header: Header
    page: int


def summarize(kind: str, header: Header, page: int) -> int | None:
    """The number for the header of an image, or of a page of a TIFF file; None where there is none for it."""
    width, height, channels, bits, progressive = header
    number = 0
    fields = (width, height, page if kind == "TIFF" else 0, bits, channels, progressive, KINDS.index(kind))
    for value, size in zip(fields, _FIELDS, strict=True):
        if not 0 <= value < 1 << size:
            return None
        number = number << size | value
    return number


def expand(number: object) -> Summary | None:
    """What a number stands for; None for what is no such number, which an index that is damaged may hold."""
    if not isinstance(number, int) or not 0 <= number < 1 << sum(_FIELDS):
        return None
    fields = []
    for size in reversed(_FIELDS):
        fields.append(number & (1 << size) - 1)
        number >>= size
    kind, progressive, channels, bits, page, height, width = fields
    if kind >= len(KINDS):
        return None
    return Summary(KINDS[kind], Header(width, height, channels, bits, bool(progressive)), page)


def foresee(number: object, form: Form, limits: Limits) -> Needs | None:
    """The memory that an image will need besides the size of its file, by what was kept of it.

    None where that does not say it: it is no header, or one of another page, or nothing is decoded. No memory is for
    what a worker will refuse by its header.
    """
    summary = expand(number)
    if summary is None or form.takes != "pixels" or (summary.kind == "TIFF" and summary.page != form.page):
        return None
    header = summary.header
    need = needs(summary.kind, header, form, 0)
    if header.width * header.height > limits.pixels or need.scratch > limits.memory:
        return Needs(0, 0)
    return need
