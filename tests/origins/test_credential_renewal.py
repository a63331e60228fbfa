import asyncio
import gc
from pathlib import Path

import pytest
import uvloop

from asyncfetch.errors import (
    ExpiredCredentials,
    FetcherClosed,
    NoCredentials,
)
from asyncfetch.origins.credentials import Credentials, CredentialSource
from tests.origins.identity import (
    SECRET,
    URI,
    Clock,
    Helper,
    boxed,
    in_environment,
    lay_home,
    server,
    source,
    write_static,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return lay_home(tmp_path, monkeypatch)


@pytest.fixture
def helper(home: Path) -> Helper:
    return Helper(home)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def under_way() -> list[asyncio.Task[object]]:
    """The renewal that is under way, if one is."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "asyncfetch: credentials"]


async def renewed() -> None:
    assert under_way()
    await asyncio.wait(under_way())


async def test_nothing_is_at_hand_before_the_first_answer(helper: Helper) -> None:
    async with source("helper") as found:
        assert found.current() is None
        await renewed()  # asking once has started it
        assert found.current() == Credentials("ASIA1", SECRET, "token1")
    assert helper.runs == 1


async def test_many_that_wait_run_the_chain_once(helper: Helper) -> None:
    async with source("helper") as found:
        many = await asyncio.gather(*[found.get(URI) for _ in range(64)])
        assert {one.access_key for one in many} == {"ASIA1"}
        for _ in range(64):
            assert found.current() is many[0]
    assert helper.runs == 1


async def test_cancelling_one_who_waits_hurts_no_other(helper: Helper) -> None:
    gate = await helper.shut()
    async with source("helper") as found:
        first, second, third = [asyncio.create_task(found.get(URI)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await gate.reached()
        gate.open()
        assert await second == await third == Credentials("ASIA1", SECRET, "token1")
    assert helper.runs == 1


async def test_when_all_who_wait_are_cancelled_the_answer_is_kept_for_the_next(helper: Helper) -> None:
    gate = await helper.shut()
    async with source("helper") as found:
        only = asyncio.create_task(found.get(URI))
        await asyncio.sleep(0)
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        await gate.reached()
        gate.open()
        assert (await found.get(URI)).access_key == "ASIA1"
    assert helper.runs == 1


async def test_renewal_runs_once_in_the_background_before_the_end(helper: Helper, clock: Clock) -> None:
    helper.life = 300
    async with source("helper", clock) as found:
        old = await found.get(URI)
        runs = helper.runs
        clock.ahead = 120  # before the half
        assert found.current() is old
        assert not under_way()
        clock.ahead = 155
        gate = await helper.shut()
        for _ in range(64):
            assert found.current() is old
            assert await found.get(URI) is old  # nobody waits while it is good
        await gate.reached()
        gate.open()
        await renewed()
        assert helper.runs == runs + 1
        new = found.current()
        assert new is not None
        assert new.access_key == f"ASIA{helper.runs}" != old.access_key


async def test_a_long_life_is_renewed_nine_minutes_before_its_end(helper: Helper, clock: Clock) -> None:
    async with source("helper", clock) as found:
        await found.get(URI)
        clock.ahead = 3600 - 600
        found.current()
        assert not under_way()
        clock.ahead = 3600 - 500
        found.current()
        await renewed()


async def test_a_renewal_that_fails_leaves_the_old_until_their_end(helper: Helper, clock: Clock) -> None:
    helper.life = 300
    async with source("helper", clock) as found:
        old = await found.get(URI)
        helper.fail()
        runs = helper.runs
        clock.ahead = 155
        assert found.current() is old
        await renewed()
        clock.ahead = 200
        assert found.current() is old
        assert not under_way()  # the next attempt is due in the middle of what is left
        assert helper.runs == runs + 1
        clock.ahead = 301
        with pytest.raises(NoCredentials, match="'custom-process' gave no credentials"):
            await found.get(URI)
        helper.recover()
        clock.ahead = 307
        assert (await found.get(URI)).access_key == f"ASIA{helper.runs}"


async def test_a_failure_is_told_to_each_who_waits_by_an_exception_of_its_own(helper: Helper) -> None:
    helper.fail()
    async with source("helper") as found:
        uris = [f"s3://bucket/{number}" for number in range(64)]
        errors = await asyncio.gather(*[found.get(uri) for uri in uris], return_exceptions=True)
        assert [getattr(error, "uri", None) for error in errors] == uris
        assert {type(error) for error in errors} == {NoCredentials}
        assert len({id(error) for error in errors}) == 64
    assert helper.runs == 1


async def test_a_failure_stands_for_five_seconds(helper: Helper, clock: Clock) -> None:
    helper.fail()
    async with source("helper", clock) as found:
        for seconds in (0, 0, 4):
            clock.ahead = seconds
            with pytest.raises(NoCredentials):
                await found.get(URI)
        assert helper.runs == 1
        helper.recover()
        clock.ahead = 6
        assert (await found.get(URI)).access_key == "ASIA2"


async def test_what_an_origin_calls_expired_is_replaced_once(helper: Helper) -> None:
    async with source("helper") as found:
        old = await found.get(URI)

        async def refused() -> Credentials:
            found.invalidate(old)
            return await found.get(URI)

        new = await asyncio.gather(*[refused() for _ in range(64)])
        assert {one.access_key for one in new} == {"ASIA2"}
        found.invalidate(Credentials(old.access_key, SECRET, old.token))  # too late: they are no longer in use
        assert found.current() is new[0]
    assert helper.runs == 2


async def test_files_are_read_again_after_an_invalidation(home: Path, clock: Clock) -> None:
    async with source("static", clock) as found:
        found.invalidate(await found.get(URI))
        with pytest.raises(ExpiredCredentials, match=r"no others are found.*aws sso login"):
            await found.get(URI)
        found.invalidate(Credentials("AKIASTATIC", SECRET, "token"))
        with pytest.raises(ExpiredCredentials):
            await found.get(URI)
        write_static(home, "AKIANEXT")
        clock.ahead = 6
        assert (await found.get(URI)).access_key == "AKIANEXT"


async def test_credentials_invalidated_while_a_renewal_gives_them_again_are_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    renewal: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    # botocore asks twice at first for a life as short as this one.
    old, new = boxed("ASIAOLD", 300), boxed("ASIANEW", 3600)
    async with server(old, old, renewal, new) as (url, seen), source(clock=clock) as found:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        first = await found.get(URI)
        assert first.access_key == "ASIAOLD"
        clock.ahead = 200
        assert found.current() is first
        for _ in range(3):
            await seen.get()
        found.invalidate(first)
        renewal.set_result(old)
        assert (await found.get(URI)).access_key == "ASIANEW"
        assert seen.qsize() == 1


async def test_closing_while_a_helper_runs_lets_it_end(helper: Helper) -> None:
    gate = await helper.shut()
    found = CredentialSource("helper")
    waiting = asyncio.create_task(found.get(URI))
    await asyncio.sleep(0)
    await gate.reached()
    closing = asyncio.create_task(found.aclose())
    await asyncio.sleep(0)
    gate.open()
    await closing
    with pytest.raises(FetcherClosed):
        await waiting
    assert helper.runs == 1


async def test_closing_ends_a_renewal_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(None) as (url, seen):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush")
        found = CredentialSource()
        waiting = asyncio.create_task(found.get(URI))
        await asyncio.sleep(0)
        await found.aclose()
        with pytest.raises(FetcherClosed):
            await waiting
        assert b"hush" in await seen.get()
        assert await seen.get() == b""
        assert seen.empty()  # a renewal that goes on asks three times


async def test_a_closed_source_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch)
    async with source() as found:
        await found.get(URI)
    with pytest.raises(FetcherClosed):
        found.current()
    with pytest.raises(FetcherClosed):
        await found.get(URI)
    await found.aclose()


def test_a_helper_and_its_renewals_on_uvloop(helper: Helper, clock: Clock) -> None:
    helper.life = 300

    async def main() -> None:
        async with source("helper", clock) as found:
            old, same = await asyncio.gather(found.get(URI), found.get(URI))
            assert old is same
            clock.ahead = 200
            assert found.current() is old
            await renewed()
            assert found.current() not in (None, old)

    uvloop.run(main())
    gc.collect()
