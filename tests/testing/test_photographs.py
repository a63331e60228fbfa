"""Photographs for the demo, the bench and the tests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import islice

import cv2
import numpy as np
import pytest

from asyncfetch.errors import ExtraMissing, UsageError
from asyncfetch.testing import demo_objects, photographs


def test_every_photograph_is_an_image_of_its_own() -> None:
    made = list(photographs(40))
    assert [name for name, _ in made] == sorted({name for name, _ in made})
    assert len({hashlib.sha256(data).digest() for _, data in made}) == 40
    assert {name.rpartition(".")[2] for name, _ in made} == {"jpg", "png", "tiff", "webp"}
    for name, data in made:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.shape == ((480, 640, 3) if name.endswith("jpg") else (240, 320, 3))


def test_jpegs_have_the_size_of_photographs() -> None:
    sizes = [len(data) for name, data in photographs(100) if name.endswith("jpg")]
    assert 60_000 < sum(sizes) / len(sizes) < 120_000


def test_the_same_seed_makes_the_same_photographs() -> None:
    assert list(photographs(15)) == list(photographs(15)) == list(islice(photographs(10**9), 15))
    assert list(photographs(5, seed=1)) != list(photographs(5, seed=2))


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_the_demo_has_two_objects_that_are_no_images(count: int) -> None:
    made = list(demo_objects(count))
    assert [name for name, _ in made] == sorted({name for name, _ in made})
    undecodable = [
        name for name, data in made if not data or cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None
    ]
    assert [name.partition("-")[2] for name in undecodable] == ["not-an-image.jpg", "empty.jpg"]
    assert len(made) == count + 2
    assert [data for name, data in made if name.endswith("empty.jpg")] == [b""]


def test_a_negative_count_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="-1"):
        photographs(-1)


def test_scikit_image_is_found_and_not_imported() -> None:
    program = (
        "import sys; from asyncfetch.testing import photographs; next(photographs(1)); print('skimage' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_scikit_image_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # The function of the same name hides the module.
    monkeypatch.setattr(sys.modules[photographs.__module__], "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"asyncfetch\[demo\]"):
        photographs(1)
