"""A page of HTML that shows thumbnails, what is known of each image, and which are the same or look alike."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from asyncfetch.errors import UsageError
from asyncfetch.jobs.html import begun, embedded
from asyncfetch.jobs.pictures import pictures
from asyncfetch.toolbox.gallery_page import BODY, SCRIPT, STYLE
from asyncfetch.whole import whole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from asyncfetch.fetcher import Fetcher
    from asyncfetch.toolbox.metadata import MetadataFile

MOST = 20_000  # images of one page; of so many it has some 60 MB, and a browser takes seconds to open it
SIDE = 160  # pixels of the longer side of pictures that are in the page itself
_AT_ONCE = 256

_Line = tuple[dict[str, Any], str | None]  # of the metadata, and where the thumbnail is


class Gallery:
    """The page at a path. `folder` is where thumbnails are, if that is a directory: then the page refers to them there.

    Else small pictures are in the page itself. Raises `UsageError` where the path is a directory, or in none.
    """

    def __init__(self, path: str | os.PathLike[str], title: str, *, folder: Path | None = None) -> None:
        self.path, self.title, self._folder = Path(path), title, folder
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise UsageError(f"--gallery {self.path} is not the name of a file", remedy="Write such as gallery.html.")

    async def write(self, fetcher: Fetcher, metadata: MetadataFile, place_of: Callable[[str], str | None]) -> None:
        """Writes the images that metadata tell of, in their order, 20,000 at most; the page says how many there are.

        `place_of` gives a URI's thumbnail, None where only the original is there, and raises `KeyError` for an image
        that is not to be shown. What is embedded is read through the fetcher. The old page stays until the new one is
        whole, also where it is cancelled or fails. Raises `OSError`.
        """
        with whole(self.path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            await self._fill(file, fetcher, metadata, place_of)

    async def _fill(
        self, file: IO[str], fetcher: Fetcher, metadata: MetadataFile, place_of: Callable[[str], str | None]
    ) -> None:
        groups: dict[str, tuple[str | None, str | None]] = {}
        cut, count = await asyncio.to_thread(_survey, metadata, place_of, groups)
        head = begun(self.title, STYLE, script=SCRIPT, images="data:" if self._folder is None else "'self' file:")
        file.write(f'{head}{BODY}<script type="application/json" id="data">')
        about = {"title": self.title, "shown": min(count, MOST), "images": count}
        file.write(f"[{_embeddable(about)}")
        async with aclosing(self._drawn(fetcher, islice(_chosen(metadata, place_of), MOST))) as drawn:
            async for line, source in drawn:
                file.write(f",\n{_embeddable(_row(line, cut, groups, source))}")
        file.write(f"]</script>\n<script>{SCRIPT}</script></body></html>\n")

    async def _drawn(
        self, fetcher: Fetcher, lines: Iterator[_Line]
    ) -> AsyncGenerator[tuple[dict[str, Any], str | None]]:
        """Each line with where its picture is: a URL, relative or with the picture in it."""
        if self._folder is not None:
            while some := await asyncio.to_thread(list, islice(lines, _AT_ONCE)):
                for line, source in await asyncio.to_thread(self._beside, self._folder, some):
                    yield line, source
            return
        waiting: deque[dict[str, Any]] = deque()

        async def sources() -> AsyncIterator[tuple[str, str]]:
            while some := await asyncio.to_thread(list, islice(lines, _AT_ONCE)):
                for line, place in some:
                    waiting.append(line)
                    if "error" not in line:
                        yield place or line["uri"], line["uri"]

        async with aclosing(pictures(fetcher, sources(), side=SIDE)) as made:
            async for picture in made:
                while (line := waiting.popleft())["uri"] != picture.name:
                    yield line, None
                yield line, embedded(picture)
        for line in waiting:
            yield line, None

    def _beside(self, folder: Path, lines: list[_Line]) -> list[tuple[dict[str, Any], str | None]]:
        start = self.path.absolute().parent
        return [
            (
                line,
                quote(os.fsencode(os.path.relpath(folder / place, start)))
                if place is not None and (folder / place).is_file()
                else None,
            )
            for line, place in lines
        ]


def _chosen(metadata: MetadataFile, place_of: Callable[[str], str | None]) -> Iterator[_Line]:
    for line in metadata.lines():
        try:
            yield line, place_of(line["uri"])
        except KeyError:
            continue


def _survey(
    metadata: MetadataFile,
    place_of: Callable[[str], str | None],
    groups: dict[str, tuple[str | None, str | None]],
) -> tuple[int, int]:
    """How much of their URIs all have in common, to the last slash, and how many they are; fills in `groups`."""
    common, count = None, 0
    for line, _ in _chosen(metadata, place_of):
        count += 1
        folder = line["uri"].rpartition("/")[0] + "/"
        common = folder if common is None else os.path.commonprefix([common, folder])  # noqa: RUF071 - URIs are no paths
        same, near = line.get("duplicate_of"), line.get("near_duplicate_of")
        if same or near:
            groups[line["uri"]] = same, near
    return (common or "").rfind("/") + 1, count


def _row(
    line: dict[str, Any], cut: int, groups: dict[str, tuple[str | None, str | None]], source: str | None
) -> dict[str, Any]:
    """What the page is told of an image, under names of one letter: there are thousands."""
    uri = line["uri"]
    same = groups.get(uri, (None, None))[0] or uri
    row = {
        "n": unquote(uri[cut:]) if uri.startswith("file:") else uri[cut:],
        "u": uri,
        "b": line.get("bytes"),
        "f": line.get("format"),
        "w": line.get("width"),
        "h": line.get("height"),
        "t": line.get("taken"),
        "s": line.get("sharpness"),
        "c": line.get("mean_color"),
        "d": same,
        "g": groups.get(same, (None, None))[1] or same,
        "e": line.get("message"),
        "p": source,
    }
    return {name: value for name, value in row.items() if value is not None and (name not in "dg" or value != uri)}


def _embeddable(value: dict[str, Any]) -> str:
    """JSON that ends no script (HTML, "Restrictions for contents of script elements"), and holds any name."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
