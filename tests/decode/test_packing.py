"""Values in a slot: what was packed comes out, and what a worker has made up is no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asyncfetch.decode import Packed, UnpackError
from asyncfetch.decode.packing import pack


def test_a_value_comes_back_with_its_arrays() -> None:
    ground = np.zeros(1 << 16, np.uint8)
    value = {"large": np.arange(4000, dtype=np.int32), "small": np.ones(3), "text": "words"}
    spans = pack(value, ground.data, 1 << 20)
    assert isinstance(spans, list)
    assert len(spans) == 2
    found = Packed(ground, [list(span) for span in spans]).unpack()
    assert found["text"] == "words"
    np.testing.assert_array_equal(found["large"], value["large"])
    assert np.shares_memory(found["large"], ground)


@pytest.mark.parametrize("spans", [[], [[0]], [[0, 4, 4]], [["0", 4]], [[0, 4]], [[0, 10**30]], [None], None])
def test_spans_that_make_no_sense_are_no_value(spans: Any) -> None:
    with pytest.raises(UnpackError):
        Packed(np.zeros(64, np.uint8), spans).unpack()
