"""Headers: sizes before anything is decoded, memory that is enough, bombs that are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch import DecodePolicy, Fetcher
from asyncfetch.decode import DecodeOptions
from asyncfetch.decode.exif import is_on_its_side
from asyncfetch.decode.headers import Header, needs, read_header
from asyncfetch.decode.sniff import identify
from asyncfetch.errors import CorruptImage, ImageTooLarge
from tests.decode.parts import PHOTOGRAPHS, encode, environment, photograph
from tests.decode.test_codecs import through_a_slot
from tests.decode.written import chunk, exif, png_file, tiff_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXTENSIONS = [".jpg", ".png", ".webp", ".gif", ".tiff", ".bmp", ".avif", ".jp2", ".pgm", ".ppm"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_sizes_are_those_of_the_decoded_image(extension: str) -> None:
    image = photograph("chelsea.png", (97, 65))
    data = encode(extension, image[..., 1] if extension == ".pgm" else image)
    header = read_header(identify(data).name, memoryview(data))
    assert (header.width, header.height) == (97, 65)
    found = through_a_slot(data, "unchanged")
    assert header.channels >= (1 if found.ndim == 2 else found.shape[2])
    assert header.bits >= 8 * found.itemsize


def test_every_photograph_has_a_size() -> None:
    for path in PHOTOGRAPHS.iterdir():
        if path.suffix in (".png", ".jpg", ".tif", ".gif"):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image is not None
            data = path.read_bytes()
            header = read_header(identify(data).name, memoryview(data))
            assert (header.height, header.width) == image.shape[:2], path.name


def test_each_page_of_a_tiff_has_its_own_size() -> None:
    done, data = cv2.imencodemulti(".tiff", [np.zeros((5, 7, 3), np.uint8), np.zeros((11, 13), np.uint16)])
    assert done
    view = memoryview(data.tobytes())
    assert read_header("TIFF", view, 1) == Header(13, 11, 1, 16)
    assert read_header("TIFF", view, 2).width == 0


def with_exif(extension: str, orientation: int) -> bytes:
    image, block = photograph(size=(80, 40)), np.frombuffer(exif(orientation), np.uint8)
    return bytes(cv2.imencodeWithMetadata(extension, image, [cv2.IMAGE_METADATA_EXIF], [block])[1])


AVIF = with_exif(".avif", 6)[:700]  # with the tables, and the item at the begin of what they are of


def late_exif(orientation: int) -> bytes:
    plain = encode(".png", photograph(size=(80, 40)))
    return plain[:-12] + chunk(b"eXIf", exif(orientation)) + plain[-12:]


TURNED: dict[str, Callable[[int], bytes]] = {
    "JPEG": lambda orientation: with_exif(".jpg", orientation),
    "PNG": lambda orientation: with_exif(".png", orientation),
    "PNG, behind the pixels": late_exif,
    "WebP": lambda orientation: with_exif(".webp", orientation),
    "AVIF": lambda orientation: with_exif(".avif", orientation),
    "TIFF": lambda orientation: tiff_file(photograph(size=(80, 40)), orientation=orientation),
    "TIFF of floats": lambda orientation: tiff_file(np.ones((40, 80), np.float32), orientation=orientation),
}


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("write", TURNED.values(), ids=TURNED)
def test_sizes_are_those_of_the_upright_image(write: Callable[[int], bytes], orientation: int) -> None:
    data = write(orientation)
    header = read_header(identify(data).name, memoryview(data))
    assert (header.width, header.height) == ((40, 80) if 5 <= orientation <= 8 else (80, 40))
    for color in ("gray", "unchanged"):
        assert through_a_slot(data, color, dtype="float32").shape[:2] == (header.height, header.width)


@pytest.mark.parametrize("extension", [".gif", ".jp2"])
def test_formats_that_nothing_turns_have_the_size_that_is_stored(extension: str) -> None:
    data = encode(extension, photograph(size=(80, 40))) + exif(6)
    header = read_header(identify(data).name, memoryview(data))
    assert (header.height, header.width) == through_a_slot(data).shape[:2] == (40, 80)


def test_a_webp_that_does_not_say_it_has_exif_is_not_turned() -> None:
    data = bytearray(with_exif(".webp", 6))
    data[20] &= ~8
    header = read_header("WebP", memoryview(data))
    assert (header.height, header.width) == through_a_slot(bytes(data)).shape[:2] == (40, 80)


@pytest.mark.parametrize("write", TURNED.values(), ids=TURNED)
def test_a_crop_of_a_turned_image_is_charged_for_its_decoding(write: Callable[[int], bytes]) -> None:
    data = write(6)
    kind, form = identify(data).name, DecodeOptions(dtype="float32", crop=(0, 50, 20, 20)).form
    header = read_header(kind, memoryview(data))
    need = needs(kind, header, form, len(data))
    assert need.pixels == through_a_slot(data, dtype="float32", crop=form.crop).nbytes == 20 * 20 * 3 * 4
    assert need.scratch >= 2 * 40 * 80 * 3


def test_a_crop_that_lies_in_no_part_of_the_image_is_charged_for_its_decoding() -> None:
    form = DecodeOptions(crop=(0, 0, 5000, 5)).form
    assert needs("PNG", Header(4000, 2000, 3, 8), form, 7) == (0, 2 * 4000 * 2000 * 3 + 7)


@given(st.data())
def test_any_bytes_of_an_avif_are_read_for_an_item_of_exif(data: st.DataObject) -> None:
    whole = bytearray(AVIF[: data.draw(st.integers(0, len(AVIF)))])
    for _ in range(data.draw(st.integers(0, 4)) if whole else 0):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(is_on_its_side("AVIF", memoryview(whole)), bool)


@given(st.sampled_from(EXTENSIONS), st.data())
def test_any_bytes_may_be_read_as_a_header(extension: str, data: st.DataObject) -> None:
    whole = bytearray(encode(extension, np.zeros((64, 64) if extension == ".pgm" else (64, 64, 3), np.uint8)))
    kind = identify(bytes(whole)).name
    for _ in range(data.draw(st.integers(0, 5))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(st.integers(0, 255))
    header = read_header(kind, memoryview(whole)[: data.draw(st.integers(26, max(26, len(whole))))])
    assert header.width >= 0
    assert header.height >= 0


# What a decoder takes at most, beside what it is charged, for each file. Every free chunk goes back to the system.
PEAKS = """
import json, sys
from pathlib import Path
import cv2, numpy
from asyncfetch.decode import DecodeOptions, codecs
from asyncfetch.decode.forms import Limits
from asyncfetch.decode.headers import read_header

def status(word):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(word)) << 10

codecs.prepare()
seen = {}
for path, options in json.loads(sys.argv[1]):
    form = DecodeOptions(**options).form
    data = memoryview(Path(path).read_bytes())
    kind = codecs.check(bytes(data[:4096]))
    header = read_header(kind, data)
    need = codecs.weigh(kind, header, form, Limits(1 << 40, 1 << 40), 0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    codecs.decode(data, kind, header, form)
    seen[f"{Path(path).name} {options}"] = need.scratch, status("VmHWM") - before
print(json.dumps(seen))
"""
FILES: dict[str, Any] = {
    "jpeg": lambda image: encode(".jpg", image),
    "progressive": lambda image: encode(
        ".jpg",
        image,
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        1,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ),
    "png": lambda image: encode(".png", image),
    "png16": lambda image: encode(".png", image.astype(np.uint16) * 257),
    "webp": lambda image: encode(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless": lambda image: encode(".webp", image),
    "gif": lambda image: encode(".gif", image),
    "avif": lambda image: encode(".avif", image, cv2.IMWRITE_AVIF_SPEED, 10),
    "jp2": lambda image: encode(".jp2", image),
    "bmp": lambda image: encode(".bmp", image),
    "strip": tiff_file,
    "strip16": lambda image: tiff_file(image.astype(np.uint16)),
    "floats": lambda image: tiff_file(image.astype(np.float32)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells a process's peak")
def test_decoding_takes_no_more_memory_than_is_charged(tmp_path: Path) -> None:
    picture, wanted = photograph("coffee.png", (1200, 800)), []
    for name, write in FILES.items():
        (tmp_path / name).write_bytes(write(picture))
        for options in ({}, {"color": "gray"}, {"color": "unchanged"}, {"dtype": "float32"}):
            if name != "floats" or "dtype" in options or "color" in options:
                floats = {"dtype": "unchanged"} if name == "floats" else {}
                wanted.append((str(tmp_path / name), {**floats, **options}))
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, json.dumps(wanted)],
        capture_output=True,
        text=True,
        check=True,
        env={**environment(), "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    peaks = json.loads(done.stdout)
    assert len(peaks) == 4 * len(FILES) - 1
    # Libraries touch pages of their own the first time.
    assert {what: pair for what, pair in peaks.items() if pair[1] > 1.05 * pair[0] + (3 << 20)} == {}
    assert {what: pair for what, pair in peaks.items() if pair[0] > 4 * pair[1] + (3 << 20)} == {}


def test_memory_is_told_of_what_is_handed_over_not_of_what_is_in_the_file() -> None:
    header = Header(4000, 2000, 3, 8)
    assert needs("PNG", header, DecodeOptions(max_size=400).form, 0).pixels == 400 * 200 * 3
    assert needs("PNG", header, DecodeOptions(color="gray", dtype="float32").form, 0).pixels == 4000 * 2000 * 4
    assert needs("PNG", Header(0, 0, 4, 16), DecodeOptions().form, 77) == (0, 77)


# Through a fetcher


async def test_a_bomb_is_refused_by_its_header_and_stops_nothing(cache_dir: Path, tmp_path: Path) -> None:
    bomb, good = tmp_path / "bomb.png", tmp_path / "good.png"
    bomb.write_bytes(png_file(100_000, 100_000, zlib.compress(bytes(4_000_000), 9)))
    good.write_bytes(encode(".png", photograph()))
    assert bomb.stat().st_size < 8192
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        with pytest.raises(ImageTooLarge, match=r"bomb.png: the header of this PNG image announces 100000 x 100000"):
            await fetcher.image(bomb)
        assert (await fetcher.image(good)).pixels.shape == (512, 512, 3)
        assert fetcher.stats().memory_peak < 16 << 20


async def test_the_limit_is_the_policys(cache_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "good.png"
    path.write_bytes(encode(".png", photograph(size=(40, 25))))
    async with Fetcher(cache_dir=cache_dir, workers=1, decode=DecodePolicy(max_pixels=999)) as fetcher:
        with pytest.raises(ImageTooLarge, match="max_pixels"):
            await fetcher.image(path)
    async with Fetcher(cache_dir=cache_dir, workers=1, decode=DecodePolicy(max_pixels=1000)) as fetcher:
        assert (await fetcher.image(path)).pixels.shape == (25, 40, 3)


async def test_a_header_that_imagesize_cannot_read_is_held_to_the_limit_by_the_decoder(
    cache_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "large.pfm"
    path.write_bytes(encode(".pfm", np.zeros((40, 25, 3), np.float32)))
    async with Fetcher(cache_dir=cache_dir, workers=1, decode=DecodePolicy(max_pixels=999)) as fetcher:
        with pytest.raises(ImageTooLarge, match="PFM image has more pixels than the limit"):
            await fetcher.image(path)


async def test_sizes_of_nothing_one_and_the_most_that_formats_can_say(cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png_file(0, 10, zlib.compress(b"")))
    (tmp_path / "1.png").write_bytes(encode(".png", np.full((1, 1, 3), 7, np.uint8)))
    (tmp_path / "wide.png").write_bytes(encode(".png", np.full((1, 65_535, 3), 7, np.uint8)))
    (tmp_path / "tall.jpg").write_bytes(encode(".jpg", np.full((65_500, 2, 3), 7, np.uint8)))
    async with Fetcher(cache_dir=cache_dir, workers=1) as fetcher:
        with pytest.raises(CorruptImage):
            await fetcher.image(tmp_path / "0.png")
        assert (await fetcher.image(tmp_path / "1.png")).pixels.tolist() == [[[7, 7, 7]]]
        assert (await fetcher.image(tmp_path / "wide.png")).pixels.shape == (1, 65_535, 3)
        assert (await fetcher.image(tmp_path / "wide.png", max_size=100)).pixels.shape == (1, 100, 3)
        assert (await fetcher.image(tmp_path / "tall.jpg")).pixels.shape == (65_500, 2, 3)


async def test_one_image_larger_than_the_budget_is_decoded_alone_and_gives_back_all(
    cache_dir: Path, tmp_path: Path
) -> None:
    paths = []
    for index, size in enumerate([(64, 48), (2000, 1500), (64, 48), (2000, 1500), (64, 48)]):
        paths.append(tmp_path / f"{index}.jpg")
        paths[-1].write_bytes(encode(".jpg", photograph(size=size)))
    async with Fetcher(cache_dir=cache_dir, workers=2, memory_budget="8MiB") as fetcher:
        shapes = [image.pixels.shape[:2] async for image in fetcher.images(paths)]
        assert shapes == [(48, 64), (1500, 2000), (48, 64), (1500, 2000), (48, 64)]
        assert fetcher.stats().memory_peak < (8 << 20) + 2000 * 1500 * 15
        while fetcher.stats().memory > 8 << 20:
            await fetcher.image(paths[0])


def test_memory_of_the_process_tree_stays_within_the_budget_over_thumbnails_and_scans() -> None:
    command = [
        sys.executable,
        "-m",
        "bench.footprint",
        "--budget",
        "160MiB",
        "--thumbnails",
        "16",
        "--megapixels",
        "6",
        "--formats",
        "jpg,png,tiff,webp",
        "--check",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    seen = json.loads(done.stdout)
    assert seen["images"] == 20
    assert " OK" in done.stderr
    assert seen["peak"] - seen["idle"] > 0.2 * seen["budget"]  # else nothing was measured
