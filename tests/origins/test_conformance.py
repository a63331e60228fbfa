"""What every origin must do, against everything that it can be tried on here."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncfetch.errors import (
    BucketNotFound,
    ObjectNotFound,
    OriginError,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageFull,
    UsageError,
)
from asyncfetch.objects import NotModified, ObjectStat
from asyncfetch.origins import ByteRange
from asyncfetch.uris import parse
from tests.leaks import census
from tests.origins.places import conforming
from tests.origins.sinks import Broken, Collector, Stuck
from tests.soak import examples

if TYPE_CHECKING:
    from asyncfetch.origins import Origin
    from asyncfetch.uris import Location
    from tests.origins.places import Pair, Place

BODY = b"0123456789"
LARGE = bytes(range(251)) * 40_000  # 10 MB: more than sockets buffer, and a length that divides by nothing


async def fetched(origin: Origin, location: Location, range: ByteRange | None = None) -> bytes:
    sink = Collector()
    stat = await origin.read(location, sink, range=range)
    assert isinstance(stat, ObjectStat)
    return sink.data


async def keys_of(
    origin: Origin, prefix: Location, *, recursive: bool = True, start_after: str | None = None
) -> list[str]:
    found = [stat async for stat in origin.list(prefix, recursive=recursive, start_after=start_after)]
    return [parse(stat.uri).key for stat in found]


@conforming()
async def test_stat_tells_size_etag_and_date(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    stat = await origin.stat(place.locate("a"))
    assert (stat.uri, stat.size) == (str(place.locate("a")), len(BODY))
    assert stat.etag
    assert '"' not in stat.etag
    assert stat.last_modified is not None
    assert stat.last_modified.tzinfo is UTC
    assert abs(datetime.now(UTC) - stat.last_modified) < timedelta(minutes=5)


@conforming("md5_etags")
async def test_etags_come_without_their_quotes(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    digest = hashlib.md5(BODY).hexdigest()
    assert (await origin.stat(place.locate("a"))).etag == digest
    if place.can.listings:
        assert [stat.etag async for stat in origin.list(place.locate(""))] == [digest]


@conforming()
async def test_read_gives_the_bytes_and_what_stat_gives(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    sink = Collector()
    assert await origin.read(place.locate("a"), sink) == await origin.stat(place.locate("a"))
    assert sink.data == BODY
    assert sink.hints == [len(BODY)]


@conforming()
async def test_a_large_body_comes_whole_through_small_rooms(place: Place, origin: Origin) -> None:
    place.put("large", LARGE)
    sink = Collector()
    stat = await origin.read(place.locate("large"), sink)
    assert isinstance(stat, ObjectStat)
    assert stat.size == len(sink.data)
    assert sink.data == LARGE
    assert sink.hints == sorted(sink.hints, reverse=True)
    assert sink.hints[0] == len(LARGE)


@conforming()
@pytest.mark.parametrize("wanted", [(0, 1), (3, 7), (5, None), (0, None), (0, 10), (8, 100), (9, 10)])
async def test_ranges(place: Place, origin: Origin, wanted: tuple[int, int | None]) -> None:
    place.put("a", BODY)
    sink = Collector()
    stat = await origin.read(place.locate("a"), sink, range=ByteRange(*wanted))
    assert stat == await origin.stat(place.locate("a"))
    assert sink.data == BODY[slice(*wanted)]
    assert sink.hints == [len(sink.data)]


@conforming()
@pytest.mark.parametrize(("body", "start"), [(BODY, 10), (BODY, 11), (b"", 0), (b"", 1)])
async def test_a_range_behind_the_end_is_refused(place: Place, origin: Origin, body: bytes, start: int) -> None:
    place.put("a", body)
    sink = Collector()
    for wanted in (ByteRange(start), ByteRange(start, start + 5)):
        with pytest.raises(RangeNotSatisfiable) as caught:
            await origin.read(place.locate("a"), sink, range=wanted)
        assert caught.value.uri == str(place.locate("a"))
    assert not sink.touched


@conforming()
@pytest.mark.parametrize("wanted", [(-1, 3), (4, 4), (4, 3)])
async def test_a_range_that_means_nothing_is_refused_unasked(
    place: Place, origin: Origin, wanted: tuple[int, int]
) -> None:
    place.put("a", BODY)
    with pytest.raises(UsageError, match="no range"):
        await origin.read(place.locate("a"), Collector(), range=ByteRange(*wanted))


@conforming()
async def test_an_empty_object_leaves_the_sink_alone(place: Place, origin: Origin) -> None:
    place.put("empty", b"")
    sink = Collector()
    stat = await origin.read(place.locate("empty"), sink)
    assert isinstance(stat, ObjectStat)
    assert stat.size == 0
    assert not sink.touched


@conforming()
@pytest.mark.parametrize("wanted", [None, ByteRange(2, 4)])
async def test_conditions_hold(place: Place, origin: Origin, wanted: ByteRange | None) -> None:
    place.put("a", BODY)
    location = place.locate("a")
    etag = (await origin.stat(location)).etag
    assert etag is not None

    sink = Collector()
    assert await origin.read(location, sink, range=wanted, if_none_match=etag) == NotModified(str(location))
    with pytest.raises(PreconditionFailed):
        await origin.read(location, sink, range=wanted, if_match="another")
    assert not sink.touched

    for condition in ({"if_match": etag}, {"if_none_match": "another"}):
        sink = Collector()
        assert await origin.read(location, sink, range=wanted, **condition) == await origin.stat(location)
        assert sink.data == (BODY if wanted is None else BODY[2:4])


@conforming()
async def test_a_changed_object_has_another_etag(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    before = (await origin.stat(place.locate("a"))).etag
    place.put("a", b"something else")
    sink = Collector()
    after = await origin.read(place.locate("a"), sink, if_none_match=before)
    assert isinstance(after, ObjectStat)
    assert after.etag != before
    assert sink.data == b"something else"


@conforming("versions")
async def test_versions(place: Place, origin: Origin) -> None:
    first, second = place.put("a", b"old"), place.put("a", b"newer")
    assert first is not None
    assert [await fetched(origin, place.locate("a", version)) for version in (first, second, None)] == [
        b"old",
        b"newer",
        b"newer",
    ]
    stat = await origin.stat(place.locate("a", first))
    assert (stat.version, stat.size, stat.uri) == (first, 3, str(place.locate("a", first)))
    assert (await origin.stat(place.locate("a"))).version == second
    with pytest.raises(ObjectNotFound, match="version"):
        await origin.stat(place.locate("a", "5xuNoSuchVersion"))


@conforming("listings")
async def test_a_listing_is_in_the_order_of_the_bytes_of_keys(place: Place, origin: Origin) -> None:
    # Directories make it hard: "d-1" < "d.1" < "d/1" < "d0".
    keys = ["a", "d-1", "d.1", "d/1", "d/e/2", "d0", "ü", "😀"]
    for key in reversed(keys):
        place.put(key, key.encode())
    root = place.locate("").key
    assert await keys_of(origin, place.locate("")) == [root + key for key in keys]
    assert await keys_of(origin, place.locate("d/")) == [f"{root}d/1", f"{root}d/e/2"]
    assert await keys_of(origin, place.locate("d/e/nothing")) == []


@conforming("listings")
async def test_a_listing_tells_what_stat_tells(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    place.put("b/c", b"")
    for listed in [stat async for stat in origin.list(place.locate(""))]:
        stat = await origin.stat(parse(listed.uri))
        assert (listed.uri, listed.size, listed.etag) == (stat.uri, stat.size, stat.etag)
        assert listed.last_modified is not None
        assert stat.last_modified is not None
        assert abs(listed.last_modified - stat.last_modified) < timedelta(seconds=2)


@conforming("listings")
async def test_a_listing_of_one_level_gives_what_lies_behind_as_prefixes(place: Place, origin: Origin) -> None:
    for key in ["a", "d-1", "d/1", "d/e/2", "d0"]:
        place.put(key, b"x")
    stats = [stat async for stat in origin.list(place.locate(""), recursive=False)]
    root = str(place.locate(""))
    assert [(stat.uri.removeprefix(root), stat.size) for stat in stats] == [
        ("a", 1),
        ("d-1", 1),
        ("d/", 0),
        ("d0", 1),
    ]


@conforming("listings")
async def test_a_prefix_need_not_end_with_a_slash(place: Place, origin: Origin) -> None:
    for key in ["img_1", "img_2", "in", "sub/img_3"]:
        place.put(key, b"x")
    root = place.locate("").key
    assert await keys_of(origin, place.locate("img")) == [f"{root}img_1", f"{root}img_2"]
    assert await keys_of(origin, place.locate("sub/img")) == [f"{root}sub/img_3"]


@conforming("listings")
async def test_a_listing_can_begin_behind_a_key(place: Place, origin: Origin) -> None:
    keys = ["a", "d-1", "d/1", "d/2/x", "d0"]
    for key in keys:
        place.put(key, b"x")
    root = place.locate("").key
    for start, key in enumerate(keys, 1):
        found = await keys_of(origin, place.locate(""), start_after=root + key)
        assert found == [root + key for key in keys[start:]]
    assert await keys_of(origin, place.locate(""), start_after=f"{root}d/1x") == [f"{root}d/2/x", f"{root}d0"]


@conforming("listings")
async def test_a_listing_goes_on_behind_a_thousand_keys(
    pair: Pair, place: Place, origin: Origin, crowded: dict[str, Place]
) -> None:
    keys = [f"many/{index:04d}" for index in range(1003)]
    if pair.server not in crowded:
        crowded[pair.server] = place
        for key in keys:
            place.put(key, b"")
    place = crowded[pair.server]
    root = place.locate("").key
    assert await keys_of(origin, place.locate("")) == [root + key for key in keys]


@conforming()
@pytest.mark.parametrize(
    "key",
    ["a b", "a+b", "a%20b", "a%2Fb", "ü/é/😀", "a?b=c&d", "a#b", "~*!'()", '<&>"', "?versionId=x", "\u2028"],
)
async def test_keys_that_tempt_to_be_read_otherwise(place: Place, origin: Origin, key: str) -> None:
    await _is_itself(place, origin, key)


@conforming("odd_keys")
@pytest.mark.parametrize(
    "key", ["/leading", "//", "a//b", "trailing/", "..", "a/../b", "../a", "./a", ".", "a/.", "é" * 512]
)
async def test_keys_that_look_like_paths(place: Place, origin: Origin, key: str) -> None:
    await _is_itself(place, origin, key)


@conforming("controls")
async def test_keys_of_control_characters(place: Place, origin: Origin) -> None:
    await _is_itself(place, origin, "\x01\x7f\x1b[31m\t")


@conforming("newlines")
@pytest.mark.parametrize("key", ["a\nb", "\r\nX-Injected: yes", "a\tb\x0b"])
async def test_keys_that_could_break_a_header(place: Place, origin: Origin, key: str) -> None:
    await _is_itself(place, origin, key)


@conforming("odd_keys")
@given(
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=200)
    | st.lists(st.sampled_from([*"/.%+ ?#&=~", "..", "%2F", "ü", "\0", "\x85"]), min_size=1, max_size=12).map("".join)
)
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_key_is_itself(place: Place, origin: Origin, key: str) -> None:
    await _is_itself(place, origin, key)


async def _is_itself(place: Place, origin: Origin, key: str) -> None:
    body = key.encode()
    place.put(key, body)
    location = place.locate(key)
    assert (await origin.stat(location)).size == len(body)
    assert await fetched(origin, location) == body
    if place.can.listings:
        assert location in [parse(stat.uri) async for stat in origin.list(location)]


@conforming()
async def test_a_missing_object_is_told_from_a_missing_bucket(place: Place, origin: Origin) -> None:
    place.put("there", b"x")
    for key in ("missing", "there/below"):
        location = place.locate(key)
        for call in (origin.stat(location), fetched(origin, location)):
            with pytest.raises(ObjectNotFound) as caught:
                await call
            assert caught.value.uri == str(location)

    nowhere = place.nowhere("a")
    kind = BucketNotFound if nowhere.scheme == "s3" else ObjectNotFound
    for missing in (origin.stat(nowhere), fetched(origin, nowhere)):
        with pytest.raises(kind):
            await missing
    if place.can.listings:
        with pytest.raises(kind):
            await keys_of(origin, nowhere)


@conforming("listings")
async def test_an_empty_key_is_no_object(place: Place, origin: Origin) -> None:
    with pytest.raises((UsageError, OriginError)):
        await origin.stat(place.locate(""))
    with pytest.raises((UsageError, OriginError)):
        await origin.read(place.locate(""), Collector())


@conforming()
async def test_fifty_reads_at_once(place: Place, origin: Origin) -> None:
    bodies = [bytes([index]) * 5000 for index in range(50)]
    for index, body in enumerate(bodies):
        place.put(f"{index:02d}", body)
    read = await asyncio.gather(*(fetched(origin, place.locate(f"{index:02d}")) for index in range(50)))
    assert read == bodies


@conforming()
async def test_the_error_of_a_sink_stays_its_own(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    for error in (StorageFull("full"), OSError(errno.ENOSPC, "no space"), TimeoutError("of the sink"), ValueError("x")):
        with pytest.raises(type(error)) as caught:
            await origin.read(place.locate("a"), Broken(error))
        assert caught.value is error
    assert await fetched(origin, place.locate("a")) == BODY


@conforming()
async def test_cancelling_in_mid_body_leaves_nothing_open(place: Place, origin: Origin) -> None:
    place.put("large", LARGE)
    place.put("a", BODY)
    assert await fetched(origin, place.locate("a")) == BODY  # what is made with the first call is made now
    before = census()

    sink = Stuck()
    reading = asyncio.create_task(origin.read(place.locate("large"), sink))
    await sink.begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await asyncio.sleep(0)  # the loop closes a transport in its next turn
    after = census()
    assert after.tasks == before.tasks
    assert after.descriptors.count("socket") <= before.descriptors.count("socket")
    assert await fetched(origin, place.locate("large")) == LARGE


@conforming("listings")
async def test_breaking_out_of_a_listing_leaves_nothing_open(place: Place, origin: Origin) -> None:
    for index in range(5):
        place.put(f"{index}", b"x")
    before = census().tasks
    async with aclosing(origin.list(place.locate(""))) as listing:  # type: ignore[type-var] # a generator in truth
        async for _ in listing:
            break
    assert census().tasks == before
    assert len(await keys_of(origin, place.locate(""))) == 5


@conforming()
async def test_closing_twice_is_closing_once(place: Place, origin: Origin) -> None:
    place.put("a", BODY)
    await fetched(origin, place.locate("a"))
    await origin.aclose()
    await origin.aclose()
