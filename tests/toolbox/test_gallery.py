"""The gallery's page: what it holds, that no name gets out of its place, and pictures beside it or in it."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from asyncfetch import Fetcher
from asyncfetch.errors import UsageError
from asyncfetch.toolbox import gallery as module
from asyncfetch.toolbox import thumbnails
from tests.toolbox.kinds import photograph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EVIL = "<!--<script>\u2044script><img src=x onerror=alert(1)>&\"'ü.jpg"


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the page is told: of itself, and of each image."""
    page = Page(path.read_text())
    data, script = page.scripts
    assert "img" not in page.tags
    assert page.tags.count("script") == 2
    assert "use strict" in script
    about, *images = json.loads(data)
    return about, images


@pytest.fixture
async def fetcher(cache_dir: Path) -> AsyncIterator[Fetcher]:
    async with Fetcher(cache_dir=cache_dir, workers=1) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 255, (6, 8, 3), np.uint8)
    large = cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_CUBIC)
    body = bytes(cv2.imencode(".jpg", large)[1])
    (folder / "a.jpg").write_bytes(body)
    (folder / "deep" / "copy.jpg").write_bytes(body)
    (folder / "near.jpg").write_bytes(bytes(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]))
    (folder / EVIL).write_bytes(photograph(3))
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


async def test_a_directory_is_referred_to_and_groups_are_told(fetcher: Fetcher, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    await thumbnails(fetcher, str(source), output=tmp_path / "small", gallery=page)
    about, images = read(page)
    assert (about["images"], about["shown"]) == (5, 5)
    found = {image["n"]: image for image in images}
    assert set(found) == {"a.jpg", "deep/copy.jpg", "near.jpg", "bad.jpg", EVIL}
    assert found["deep/copy.jpg"]["d"] == found["a.jpg"]["u"]
    assert found["near.jpg"]["g"] == found["a.jpg"]["u"]
    assert (found["a.jpg"]["w"], found["a.jpg"]["h"]) == (320, 240)
    assert "e" in found["bad.jpg"]
    for image in images:
        if "e" not in image:
            assert not image["p"].startswith("data:")
            assert (tmp_path / unquote(image["p"])).is_file()


async def test_without_a_directory_pictures_are_in_the_page(fetcher: Fetcher, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    await thumbnails(fetcher, str(source), metadata_only=True, gallery=page)
    _, images = read(page)
    for image in images:
        if "e" in image:
            assert "p" not in image
            continue
        kind, data = image["p"].split(",")
        assert kind == "data:image/webp;base64"
        pixels = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert max(pixels.shape) <= module.SIDE
    assert re.search(r"default-src 'none'; img-src data:; .* script-src 'sha256-", page.read_text())


async def test_more_than_a_page_holds_is_told(
    fetcher: Fetcher, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    await thumbnails(fetcher, str(source), output=tmp_path / "small", gallery=tmp_path / "out.html")
    about, images = read(tmp_path / "out.html")
    assert (about["images"], about["shown"], len(images)) == (5, 2, 2)


async def test_metadata_of_other_images_are_not_shown(fetcher: Fetcher, source: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    await thumbnails(fetcher, str(source), metadata=lines, metadata_only=True)
    await thumbnails(fetcher, str(source / "deep"), metadata=lines, metadata_only=True, gallery=tmp_path / "out.html")
    _, images = read(tmp_path / "out.html")
    assert [image["n"] for image in images] == ["copy.jpg"]


async def test_a_path_that_is_no_file_is_refused_first(fetcher: Fetcher, source: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "out.html"):
        with pytest.raises(UsageError, match="--gallery"):
            await thumbnails(fetcher, str(source), metadata_only=True, gallery=path)
