"""The objects: real, of the sizes they are said to have, made once."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from blake3 import blake3

from bench import data


@pytest.mark.parametrize(("kind", "size"), [("small", 4096), ("large", 64 << 20)])
def test_objects_are_files_with_the_size_and_digest_of_their_manifest(tmp_path: Path, kind: str, size: int) -> None:
    made = data.make(tmp_path, kind, 2)
    assert len(made.items) == len({item.digest for item in made.items}) == 2
    for item in made.items:
        body = made.path(item).read_bytes()
        assert len(body) == item.size == size
        assert blake3(body).hexdigest() == item.digest
    assert made.bytes == 2 * size


def test_photographs_decode_and_weigh_about_86_kb(tmp_path: Path) -> None:
    made = data.make(tmp_path, "photos", 60)
    assert len({item.digest for item in (*made.items, *made.warm_up)}) == 60 + data.WARM_UP_COUNT
    assert 78_000 < made.bytes / 60 < 94_000
    for item in made.items[:5]:
        image = cv2.imdecode(np.fromfile(made.path(item), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (480, 640, 3)


def test_mixed_images_are_of_four_formats(tmp_path: Path) -> None:
    made = data.make(tmp_path, "mixed", 20)
    assert {item.key.rpartition(".")[2] for item in made.items} == {"jpg", "png", "tiff", "webp"}


def test_what_is_there_is_kept_and_more_begins_with_the_same(tmp_path: Path) -> None:
    first = data.make(tmp_path, "small", 3)
    stamps = [first.path(item).stat().st_mtime_ns for item in first.items]
    assert data.make(tmp_path, "small", 2).items == first.items[:2]
    assert [first.path(item).stat().st_mtime_ns for item in first.items] == stamps
    assert data.make(tmp_path, "small", 5).items[:3] == first.items
    assert data.load(tmp_path / "objects", "small", 4).items == data.make(tmp_path, "small", 4).items


def test_objects_of_another_version_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data.make(tmp_path, "small", 1)
    before.path(before.items[0]).write_bytes(b"")
    monkeypatch.setattr(data, "MANIFEST_VERSION", data.MANIFEST_VERSION + 1)
    assert len(before.path(data.make(tmp_path, "small", 1).items[0]).read_bytes()) == 4096


def test_a_kind_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'huge'"):
        data.make(tmp_path, "huge", 1)
