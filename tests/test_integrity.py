"""Damaged blobs, as a user meets them: never served, set aside, counted, told, and fetched anew in the same call."""

from __future__ import annotations

import errno
import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from asyncfetch import CachePolicy, Fetcher
from asyncfetch.cache import checks, digest_file, files
from asyncfetch.errors import NotInCache, UsageError
from asyncfetch.testing import ScriptedServer, answer, demo_objects
from asyncfetch.testing.scripted import RawRequest
from tests.cache.helpers import blobs, check_blobs

Verify = Literal["size", "first", "always"]
Damage = Callable[[bytes], bytes]

BODIES = {
    f"/{number}": random.Random(number).randbytes(size) for number, size in enumerate((1, 5_000, 300_000, 1_500_000))
}


def flipped(data: bytes) -> bytes:
    at = random.Random(len(data)).randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def truncated(data: bytes) -> bytes:
    return data[:-1]


def longer(data: bytes) -> bytes:
    return data + b"\0"


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def emptied(_: bytes) -> bytes:
    return b""


SAME_SIZE = [flipped, zeroed]
OTHER_SIZE = [truncated, longer, emptied]


class Place:
    """A server of the bodies, and a cache that has all of them."""

    def __init__(self, server: ScriptedServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.uris = [f"{server.url}{target}" for target in BODIES]

    def policy(self, **options: Any) -> CachePolicy:
        return CachePolicy(cache_dir=self.directory, **options)

    def damage(self, how: Damage) -> None:
        for path in blobs(self.directory).values():
            path.write_bytes(how(path.read_bytes()))

    def bad(self) -> list[Path]:
        return list((self.directory / "v1" / "bad").glob("*"))

    async def read(self, fetcher: Fetcher) -> list[bytes]:
        return [entry.path.read_bytes() async for entry in fetcher.entries(self.uris)]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    def serve(request: RawRequest) -> bytes:
        etag = f'"{request.target}"'
        if request.header("If-None-Match") == etag:
            return answer(status="304 Not Modified", headers=[f"ETag: {etag}"])
        return answer(BODIES[request.target], headers=[f"ETag: {etag}"])

    async with ScriptedServer(serve) as server:
        place = Place(server, tmp_path)
        async with Fetcher(cache=place.policy()) as fetcher:
            assert await place.read(fetcher) == list(BODIES.values())
        server.requests.clear()
        yield place


@pytest.mark.parametrize("revalidate", ["never", "once", "always"])
@pytest.mark.parametrize(
    ("verify", "damage"),
    [
        *((verify, damage) for verify in ("size", "first", "always") for damage in OTHER_SIZE),
        *((verify, damage) for verify in ("first", "always") for damage in SAME_SIZE),
    ],
)
async def test_what_the_policy_looks_at_is_found_and_fetched_anew(
    place: Place, verify: Verify, damage: Damage, revalidate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    place.damage(damage)
    async with Fetcher(cache=place.policy(verify=verify, revalidate=revalidate)) as fetcher:
        for number, uri in enumerate(place.uris):  # each way to a body passes through the check
            body = BODIES[f"/{number}"]
            if number % 2:
                assert await fetcher.read_bytes(uri) == body
            else:
                assert (await fetcher.fetch(uri)).path.read_bytes() == body
        assert await place.read(fetcher) == list(BODIES.values())
        assert (fetcher.stats().damaged, fetcher.stats().downloaded) == (4, 4)
    assert len(place.bad()) == 4
    assert {path.name.partition(".")[0] for path in place.bad()} == {
        path.name for path in blobs(place.directory).values()
    }
    check_blobs(place.directory)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 4
    assert all("is damaged" in text for text in told)
    conditional = [request for request in place.server.requests if request.header("If-None-Match")]
    assert revalidate == "always" or not conditional, "nobody asks whether damaged bytes are still the object"


@pytest.mark.parametrize("damage", SAME_SIZE)
async def test_a_range_is_not_cut_out_of_damaged_bytes(place: Place, damage: Damage) -> None:
    place.damage(damage)
    async with Fetcher(cache=place.policy(verify="first")) as fetcher:
        for uri, body in zip(place.uris, BODIES.values(), strict=True):
            assert await fetcher.read_bytes(uri, 0, 4_000) == body[:4_000]
        assert fetcher.stats().damaged == 4
    assert len(place.bad()) == 4


async def test_always_looks_each_time_and_first_once(place: Place) -> None:
    policies: tuple[tuple[Verify, int], ...] = (("always", 4), ("first", 0), ("size", 0))
    for verify, found in policies:
        async with Fetcher(cache=place.policy(verify=verify, revalidate="never")) as fetcher:
            assert await place.read(fetcher) == list(BODIES.values())
            originals = {path: path.read_bytes() for path in blobs(place.directory).values()}
            place.damage(zeroed)
            wrong = [data != body for data, body in zip(await place.read(fetcher), BODIES.values(), strict=True)]
            assert (sum(wrong), fetcher.stats().damaged) == (4 - found, found)
        for path, data in originals.items():
            path.write_bytes(data)


async def test_offline_a_damaged_object_is_one_that_is_not_there(place: Place) -> None:
    place.damage(flipped)
    async with Fetcher(cache=place.policy(verify="first", offline=True)) as fetcher:
        for uri in place.uris:
            for attempt in (
                fetcher.fetch(uri),
                fetcher.read_bytes(uri),
                fetcher.read_bytes(uri, 0, 1),
                fetcher.stat(uri),
            ):
                with pytest.raises(NotInCache):
                    await attempt
        assert fetcher.stats().damaged == 4


async def test_a_disk_that_damages_whatever_it_is_given_serves_no_wrong_byte(place: Place) -> None:
    async with Fetcher(cache=place.policy(verify="always", revalidate="never")) as fetcher:
        for turn in range(40):
            place.damage((flipped, zeroed, truncated)[turn % 3])
            assert await place.read(fetcher) == list(BODIES.values())
        assert fetcher.stats().damaged == 160
    assert len(place.bad()) <= 32


async def test_what_cannot_be_set_aside_is_not_served_either(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *rest: str) -> None:
        if any("/bad/" in name for name in rest):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        os.rename(path, *rest)

    monkeypatch.setattr(files, "rename", refuse)
    place.damage(flipped)
    async with Fetcher(cache=place.policy(verify="first", revalidate="never")) as fetcher:
        for uri, body in zip(place.uris, BODIES.values(), strict=True):
            assert await fetcher.read_bytes(uri, 0, 5_000) == body[:5_000]
            assert await fetcher.read_bytes(uri) == body
        assert await place.read(fetcher) == list(BODIES.values())
    check_blobs(place.directory)


async def test_a_blob_that_somebody_else_has_mended_meanwhile_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes find the same damage; the second must not take away what the first has fetched by then."""
    uri, body = place.uris[1], BODIES["/1"]
    place.damage(flipped)

    def hashed_too_early(path: str, algorithm: Any) -> str:
        digest = digest_file(path, algorithm)
        Path(f"{path}.mended").write_bytes(body)
        os.replace(f"{path}.mended", path)
        return digest

    monkeypatch.setattr(checks, "digest_file", hashed_too_early)
    async with Fetcher(cache=place.policy(verify="first", revalidate="never")) as fetcher:
        assert (await fetcher.fetch(uri)).path.read_bytes() == body
        assert fetcher.stats().damaged == 0
    assert not place.bad()


async def test_images_are_not_decoded_from_damaged_bytes(place: Place, tmp_path: Path) -> None:
    photograph = next(body for key, body in demo_objects(12) if "motorcycle" in key)
    async with ScriptedServer(lambda _: answer(photograph, headers=['ETag: "p"'])) as server:
        uri = f"{server.url}/p.jpg"
        async with Fetcher(cache=place.policy()) as fetcher:
            right = (await fetcher.image(uri)).pixels.tobytes()
        place.damage(zeroed)
        async with Fetcher(cache=place.policy(verify="first", revalidate="never")) as fetcher:
            assert [image.pixels.tobytes() async for image in fetcher.images([uri, uri])] == [right, right]
            assert (await fetcher.image(uri)).pixels.tobytes() == right
            assert fetcher.stats().damaged == 1


def test_only_a_policy_is_a_policy() -> None:
    with pytest.raises(UsageError, match="verify"):
        CachePolicy(verify="sometimes")  # type: ignore[arg-type]
