"""The fault server: S3 where nothing goes wrong, and each fault what it is called."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

import asyncfetch
from asyncfetch.errors import (
    EndpointUnreachable,
    ExpiredCredentials,
    InvalidCredentials,
    OriginError,
    OriginTimeout,
    ServerError,
    Throttled,
    TransferInterrupted,
    UsageError,
)
from asyncfetch.objects import ObjectStat
from asyncfetch.origins import ByteRange, open_origins
from asyncfetch.settings import Access, NetworkPolicy, Settings
from asyncfetch.testing import Asked, Credentials, Fault, Faults, FaultServer, Generated
from asyncfetch.testing.scripted import ScriptedServer
from asyncfetch.uris import s3
from tests.origins.sinks import Collector
from tests.servers import s3_client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BODY = bytes(range(256)) * 16
KEYS = ("plain", "with blank", "a//b", "../up", "ünïcode", "plus+and%20", "q?x=1&y", "~tilde(1)*'!")
OBJECTS = {key: key.encode() * 50 for key in KEYS}
OWNER = Credentials("AKIDOWNER", "owners-secret")


async def get(server: FaultServer, key: str = "k", *, network: NetworkPolicy | None = None, **read: Any) -> bytes:
    settings = Settings(
        access=Access(endpoint_url=server.endpoint_url, region="us-east-1"), network=network or NetworkPolicy()
    )
    async with aclosing(open_origins(settings)["s3"]) as origin:
        sink = Collector()
        await origin.read(s3(server.bucket, key), sink, **read)
        return sink.data


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER.secret_access_key)


# Without faults.


def test_another_client_reads_everything_and_its_signatures_are_checked() -> None:
    with FaultServer(OBJECTS, credentials=OWNER) as server:
        client = s3_client(server)
        for key, body in OBJECTS.items():
            assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == body
            head = client.head_object(Bucket="bucket", Key=key)
            assert (head["ContentLength"], head["ETag"]) == (len(body), f'"{hashlib.md5(body).hexdigest()}"')
            part = client.get_object(Bucket="bucket", Key=key, Range="bytes=3-9")
            assert (part["Body"].read(), part["ContentRange"]) == (body[3:10], f"bytes 3-9/{len(body)}")
        assert server.count(method="HEAD", key="a//b", status=200) == 1
        server.expire(OWNER)
        with pytest.raises(ClientError, match="ExpiredToken"):
            client.list_objects_v2(Bucket="bucket")
        other = Credentials("AKIDOTHER", "others-secret")
        server.credentials = other
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            s3_client(server).list_objects_v2(Bucket="bucket")
        server.accept(Credentials("AKIDOTHER", "another-secret"))
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            s3_client(server).list_objects_v2(Bucket="bucket")
        server.accept(other)
        assert s3_client(server).list_objects_v2(Bucket="bucket")["KeyCount"] == len(OBJECTS)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"Bucket": "nowhere", "Key": "plain"}, "NoSuchBucket"),
        ({"Bucket": "bucket", "Key": "nothing"}, "NoSuchKey"),
        ({"Bucket": "bucket", "Key": "plain", "IfMatch": '"x"'}, "PreconditionFailed"),
        ({"Bucket": "bucket", "Key": "plain", "Range": "bytes=999999-"}, "InvalidRange"),
        ({"Bucket": "bucket", "Key": "plain", "IfNoneMatch": "*"}, "304"),
    ],
)
def test_what_cannot_be_had_is_refused_as_s3_does(call: Mapping[str, str], code: str) -> None:
    with FaultServer(OBJECTS) as server, pytest.raises(ClientError, match=code):
        s3_client(server).get_object(**call)


def test_listings_come_in_pages_and_fold_at_the_delimiter() -> None:
    keys = [f"{folder}/{number:03d}" for folder in ("a", "b", "c d") for number in range(30)] + ["ende", "a!"]
    with FaultServer(dict.fromkeys(keys, b"x")) as server:
        pages = s3_client(server).get_paginator("list_objects_v2")

        def listed(**request: Any) -> tuple[list[str], list[str]]:
            found = list(pages.paginate(Bucket="bucket", **request))
            return (
                [entry["Key"] for page in found for entry in page.get("Contents", ())],
                [entry["Prefix"] for page in found for entry in page.get("CommonPrefixes", ())],
            )

        for size in (1, 7, 1000):
            config = {"PaginationConfig": {"PageSize": size}}
            assert listed(**config) == (sorted(keys), [])
            assert listed(Delimiter="/", **config) == (["a!", "ende"], ["a/", "b/", "c d/"])
            assert listed(Prefix="b/", StartAfter="b/027", **config) == (["b/028", "b/029"], [])
        assert server.count(key="", status=200) == sum(server.asked().values())


@pytest.mark.usefixtures("signing")
async def test_the_package_learns_its_clock_and_speaks_tls_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    async with FaultServer({"k": BODY}, credentials=OWNER, tls=context, clock=7200.0) as server:
        assert server.endpoint_url.startswith("https://")
        assert await get(server) == BODY
        assert server.asked() == {Asked("GET", "k", 403, None): 1, Asked("GET", "k", 200, None): 1}


def test_generated_objects_are_the_same_each_time() -> None:
    objects = Generated(3, 1000)
    assert list(objects) == ["00000000", "00000001", "00000002"]
    assert len({objects[key] for key in objects}) == 3
    assert objects["00000001"] == Generated(3, 1000)["00000001"] != Generated(3, 1000, seed=1)["00000001"]
    for other in ("00000003", "1", "x"):
        assert other not in objects


# Each fault.


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.RESET, TransferInterrupted),
        (Fault.TRUNCATE, TransferInterrupted),
        (Fault.OVERSTATE, TransferInterrupted),
        (Fault.ERROR, ServerError),
        (Fault.UNAVAILABLE, Throttled),
        (Fault.REFUSE_SIGNATURE, InvalidCredentials),
        (Fault.EXPIRE_TOKEN, ExpiredCredentials),
    ],
)
@pytest.mark.usefixtures("signing")
async def test_a_fault_strikes_the_request_that_it_is_meant_for(fault: Fault, kind: type[OriginError]) -> None:
    async with FaultServer({"k": BODY, "other": BODY}, faults=Faults(at={("k", 2): fault})) as server:
        assert await get(server) == BODY
        with pytest.raises(kind):
            await get(server)
        assert await get(server) == await get(server, "other") == BODY
        assert server.count(fault=fault) == 1


async def counted(server: FaultServer, fault: Fault) -> None:
    while not server.count(fault=fault):  # counted on another thread, when the answer begins
        await asyncio.sleep(0)


@pytest.mark.usefixtures("signing")
@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.STALL, Fault.DRIP])
async def test_what_is_late_comes_in_the_end_and_not_before(fault: Fault) -> None:
    faults = Faults(at={("k", 1): fault}, slow_seconds=0.1, stall_seconds=0.1, drip_bytes=1024, drip_seconds=0.02)
    async with FaultServer({"k": BODY}, faults=faults) as server:
        assert await get(server) == BODY
    faults = Faults(at={("k", 1): fault}, slow_seconds=60, stall_seconds=60, drip_seconds=60)
    async with FaultServer({"k": BODY}, faults=faults) as server:
        with pytest.raises(OriginTimeout):
            await get(server, network=NetworkPolicy(read_timeout=0.1))


@pytest.mark.usefixtures("signing")
async def test_one_bit_is_another() -> None:
    async with FaultServer({"k": BODY}, faults=Faults(flip=1.0)) as server:
        came = await get(server)
    wrong = [a ^ b for a, b in zip(came, BODY, strict=True) if a != b]
    assert len(wrong) == 1
    assert wrong[0].bit_count() == 1


@pytest.mark.usefixtures("signing")
async def test_fewer_bytes_are_announced_than_come() -> None:
    async with FaultServer({"k": BODY}, faults=Faults(understate=1.0)) as server:
        assert await get(server) == BODY[:-1]


@pytest.mark.usefixtures("signing")
async def test_an_object_is_replaced_between_two_ranges() -> None:
    async with FaultServer({"k": BODY}, faults=Faults(at={("k", 1): Fault.REPLACE})) as server:
        assert server.versions("k") == (BODY,)
        assert await get(server, range=ByteRange(0, 10)) == BODY[:10]
        assert await get(server, range=ByteRange(0, 10)) == bytes(byte ^ 0xFF for byte in BODY[:10])
        assert server.versions("k") == (BODY, bytes(byte ^ 0xFF for byte in BODY))


@pytest.mark.usefixtures("signing")
async def test_a_head_and_a_listing_have_the_faults_that_they_can_have() -> None:
    for fault in Fault:
        if fault in (Fault.LIMITED, Fault.OUTAGE):
            continue
        async with FaultServer({"k": BODY}, faults=Faults(**{fault.value: 1.0}, stall_seconds=0)) as server:  # type: ignore[arg-type]  # all are numbers
            settings = Settings(access=Access(endpoint_url=server.endpoint_url, region="us-east-1"))
            results: list[object] = []
            async with aclosing(open_origins(settings)["s3"]) as one, aclosing(open_origins(settings)["s3"]) as other:
                for call in (one.stat(s3("bucket", "k")), anext(aiter(other.list(s3("bucket", ""))))):
                    try:
                        results.append(await call)
                    except OriginError as error:
                        results.append(error)
            unfit = fault in (Fault.FLIP, Fault.REPLACE, Fault.UNDERSTATE)
            assert all(isinstance(result, ObjectStat) for result in results) or not unfit
            assert (server.count(key="", fault=fault) > 0) is not unfit


# Limits and outages.


async def test_beyond_its_rate_it_asks_to_slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    # A token in 1,000 s: none comes back while the test runs.
    async with FaultServer({"k": BODY}, faults=Faults(rate_limit=0.001, burst=3)) as server:
        client = s3_client(server)
        for _ in range(3):
            client.get_object(Bucket="bucket", Key="k")
        for _ in range(2):
            with pytest.raises(ClientError, match="SlowDown"):
                client.get_object(Bucket="bucket", Key="k")
        assert server.count(status=503, fault=Fault.LIMITED) == 2
        server.faults = Faults()
        client.get_object(Bucket="bucket", Key="k")


async def test_a_limit_of_a_prefix_counts_and_refuses_none_but_its_own_keys() -> None:
    objects = dict.fromkeys(("hot/1", "hot/2", "hotter", "cold/1"), BODY)
    async with FaultServer(objects, faults=Faults(rate_limit=0.001, burst=2, limited_prefix="hot/")) as server:
        client = s3_client(server)
        for key in ("cold/1", "hotter", "hot/1", "cold/1", "hot/2"):
            client.get_object(Bucket="bucket", Key=key)
        with pytest.raises(ClientError, match="SlowDown"):
            client.get_object(Bucket="bucket", Key="hot/1")
        for key in ("cold/1", "hotter"):
            client.get_object(Bucket="bucket", Key=key)
        client.list_objects_v2(Bucket="bucket", Prefix="hot/")
        assert {asked.key for asked in server.asked() if asked.fault is Fault.LIMITED} == {"hot/1"}


@pytest.mark.usefixtures("signing")
async def test_an_outage_refuses_connections_and_ends_at_the_same_port() -> None:
    async with FaultServer({"k": BODY}) as server:
        url = server.endpoint_url
        await asyncio.to_thread(server.go_down)
        with pytest.raises(EndpointUnreachable):
            await get(server)
        await asyncio.to_thread(server.come_up)
        assert server.endpoint_url == url
        assert await get(server) == BODY


@pytest.mark.usefixtures("signing")
async def test_a_run_goes_on_by_itself_after_an_outage_in_its_middle(cache_dir: Path) -> None:
    faults = Faults(outage_after=50, outage_seconds=0.3)
    async with FaultServer(Generated(100, 500), faults=faults) as server:
        async with asyncfetch.Fetcher(
            cache_dir=cache_dir,
            endpoint_url=server.endpoint_url,
            region="us-east-1",
            network=NetworkPolicy(attempts=20),
        ) as fetcher:
            report = await fetcher.prefetch(server.uri(key) for key in Generated(100, 500))
        assert (report.objects, report.failed) == (100, 0)
        assert server.count(fault=Fault.OUTAGE) >= 1
        assert server.count(status=200) >= 100  # what was under way when it went is asked for again


# Replays.


@pytest.mark.usefixtures("signing")
async def test_the_same_seed_gives_the_same_faults_in_whatever_order_requests_come() -> None:
    faults, objects = Faults.evenly(0.5, stall_seconds=0, slow_seconds=0, drip_seconds=0), Generated(40, 100)

    async def run(seed: int, keys: list[str]) -> dict[str, list[Fault | None]]:
        async with FaultServer(objects, faults=faults, seed=seed) as server:
            results = await asyncio.gather(*(get(server, key) for key in keys * 2), return_exceptions=True)
            assert not [result for result in results if isinstance(result, UsageError)]
            struck: dict[str, list[Fault | None]] = {key: [] for key in objects}
            for asked, times in server.asked().items():
                struck[asked.key] += [asked.fault] * times
        return {key: sorted(found, key=str) for key, found in struck.items()}

    first = await run(7, list(objects))
    assert first == await run(7, list(objects)[::-1])
    assert first != await run(8, list(objects))


@given(st.integers(), st.text(max_size=20), st.integers(1, 10**6))
def test_a_choice_is_one_of_those_that_have_a_share(seed: int, key: str, nth: int) -> None:
    assert Faults().choose(seed, key, nth) is None
    assert Faults(drip=1.0).choose(seed, key, nth) is Fault.DRIP
    assert Faults(slow=0.5, flip=0.5).choose(seed, key, nth) in (Fault.SLOW, Fault.FLIP)
    assert Faults(at={(key, nth): Fault.RESET}, drip=1.0).choose(seed, key, nth) is Fault.RESET


def test_shares_are_kept() -> None:
    faults = Faults.evenly(0.22)
    drawn = [faults.choose(0, str(number), 1) for number in range(20_000)]
    for fault in list(Fault)[:11]:
        assert 300 < drawn.count(fault) < 500  # 400 expected, and 20 is a standard deviation
    assert drawn.count(None) == 20_000 - sum(fault is not None for fault in drawn)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slow": -0.1},
        {"slow": 0.6, "flip": 0.6},
        {"rate_limit": 0.0},
        {"burst": 0},
        {"drip_bytes": 0},
        {"outage_seconds": -1.0},
        {"at": {("k", 1): Fault.OUTAGE}},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Faults(**wrong)


# Its life.


def test_it_has_no_address_outside_of_its_context() -> None:
    server = FaultServer({})
    with pytest.raises(UsageError):
        _ = server.endpoint_url
    with server:
        assert server.endpoint_url
        with pytest.raises(UsageError):
            server.__enter__()
    with pytest.raises(UsageError):
        _ = server.endpoint_url


@pytest.mark.usefixtures("signing")
async def test_leaving_it_ends_what_hangs_and_leaves_no_thread() -> None:
    before = threading.active_count()
    async with FaultServer({"k": BODY}, faults=Faults(stall=1.0, stall_seconds=3600)) as server:
        reading = asyncio.create_task(get(server))
        await counted(server, Fault.STALL)
    with pytest.raises(TransferInterrupted):
        await reading
    assert not [each for each in threading.enumerate() if "fault server" in each.name]
    assert threading.active_count() <= before + 8  # threads of the loop's executor stay


def test_a_port_that_cannot_be_had_is_an_error_and_no_hang() -> None:
    server = FaultServer({})
    with socket.create_server((ScriptedServer.host, 0)) as taken:
        server._port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), server:
            pass
