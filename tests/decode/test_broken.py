"""Images that broke other decoders: each ends as pixels or as a failure with a name, and the workers live.

`broken/README.md` says where they are from.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncfetch.decode import tiff
from asyncfetch.errors import CorruptImage, ImageTooLarge, OutOfMemory, UnsupportedFormat
from tests.decode.parts import Outcome, decode, expected, photographs

if TYPE_CHECKING:
    from tests.decode.parts import OpenPool

_HERE = Path(__file__).parent / "broken"
BROKEN = sorted(path for path in _HERE.rglob("*") if path.is_file() and path.name not in ("LICENSE", "README.md"))


async def test_each_ends_as_pixels_or_as_a_named_failure(open_pool: OpenPool, tmp_path: Path) -> None:
    pool = open_pool(2, timeout=20.0)
    [good] = photographs(tmp_path, 1)
    forms: list[dict[str, Any]] = [
        {},
        {"color": "unchanged"},
        {"size": (50, 40), "fit": "fill"},
        {"color": "gray", "dtype": "float32", "page": 1},
    ]
    outcomes = [Outcome(pool, path, **form) for path in BROKEN for form in forms]
    ends: Counter[str] = Counter()
    for outcome in outcomes:
        pool.urge(outcome.job)  # as the head of a stream is
        try:
            ends["pixels"] += (await outcome.get()).size > 0
        except (CorruptImage, UnsupportedFormat, ImageTooLarge, OutOfMemory):
            ends["failures"] += 1
    assert pool.statistics().died == 0
    assert ends["pixels"] > 40, ends
    assert ends["failures"] > 80, ends
    assert sum(ends.values()) == len(outcomes)
    np.testing.assert_array_equal(await decode(pool, good), expected(good))
    for half in "truncated_jpeg.jpg", "broken.png", "bmpsuite/shortfile.bmp":
        assert isinstance(await Outcome(pool, _HERE / half).error(), CorruptImage), half
    for form in forms:
        error = await Outcome(pool, _HERE / "libtiff_segfault.tif", **{**form, "page": 0}).error()
        assert isinstance(error, UnsupportedFormat), "not memory, which 65,535 channels would take"
        assert "a TIFF image with 65535 channels" in str(error)


def test_a_directory_further_away_than_a_computer_can_count_is_no_page() -> None:
    assert list(tiff.pages(memoryview((_HERE / "seek_too_large.tif").read_bytes()))) == []
