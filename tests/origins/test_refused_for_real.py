"""What servers that run here refuse, named alike by both ways to S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from asyncfetch.errors import (
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    ExpiredCredentials,
    InvalidCredentials,
    NoCredentials,
    ObjectArchived,
    ObjectNotFound,
    OriginError,
    PreconditionFailed,
    RangeNotSatisfiable,
)
from asyncfetch.origins import ByteRange, open_origins
from asyncfetch.settings import Access, Settings
from asyncfetch.testing import Credentials, FaultServer
from asyncfetch.uris import Location, s3
from tests.origins.places import S3Place
from tests.origins.sinks import Collector
from tests.servers import MOTO, RCLONE, Server, needs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from asyncfetch.origins import Origin

    Call: TypeAlias = Callable[[Origin], Awaitable[object]]

Way = Literal["native", "boto"]
ways = pytest.mark.parametrize("way", ["native", "boto"])

OWNER = Credentials("AKIDOWNER", "owners-secret")


async def refused(way: Way, url: str, call: Call, *, anonymous: bool = False) -> OriginError:
    access = Access(endpoint_url=url, region="us-east-1", origin=way, anonymous=anonymous)
    origin = open_origins(Settings(access=access))["s3"]
    try:
        await call(origin)
    except OriginError as error:
        return error
    finally:
        await origin.aclose()
    raise AssertionError("it was not refused")


def reading(location: Location, *, span: ByteRange | None = None, if_match: str | None = None) -> Call:
    return lambda origin: origin.read(location, Collector(), range=span, if_match=if_match)


@ways
@needs("if_match", "versions")
async def test_what_moto_refuses(server: Server, way: Way) -> None:
    place = S3Place(server, MOTO)
    place.put("a", b"0123456789")
    place.client.put_object(Bucket=place.bucket, Key="cold", Body=b"x", StorageClass="GLACIER")
    here = place.locate("a")
    for call, kind, code in (
        (reading(place.locate("none")), ObjectNotFound, "NoSuchKey"),
        (lambda origin: origin.stat(place.locate("none")), ObjectNotFound, "NoSuchKey"),
        (reading(place.nowhere("a")), BucketNotFound, "NoSuchBucket"),
        (reading(here, if_match="another"), PreconditionFailed, "PreconditionFailed"),
        (reading(here, span=ByteRange(10)), RangeNotSatisfiable, "InvalidRange"),
        (reading(place.locate("cold")), ObjectArchived, "InvalidObjectState"),
    ):
        error = await refused(way, server.endpoint_url, call)
        assert (type(error), error.code) == (kind, code)
        assert error.status in (403, 404, 412, 416)


@ways
@needs("private_objects")
async def test_what_is_closed_to_the_public_names_what_it_needs(server: Server, way: Way) -> None:
    place = S3Place(server, MOTO)
    place.put("a", b"x")
    for call in (reading(place.locate("a")), lambda origin: origin.stat(place.locate("a"))):
        error = await refused(way, server.endpoint_url, call, anonymous=True)
        assert type(error) is AccessDenied
        assert f"s3:GetObject on arn:aws:s3:::{place.bucket}/a" in str(error)


@ways
@needs("checks_signatures")
async def test_a_wrong_secret(server: Server, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    place = S3Place(server, RCLONE)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    error = await refused(way, server.endpoint_url, reading(place.locate("a")))
    assert (type(error), error.code) == (InvalidCredentials, "SignatureDoesNotMatch")
    assert "secret access key" in str(error)


@ways
@pytest.mark.parametrize(
    ("identity", "kind", "code"),
    [
        (Credentials("AKIDOWNER", "wrong"), InvalidCredentials, "SignatureDoesNotMatch"),
        (Credentials("AKIDNOBODY", "owners-secret"), InvalidCredentials, "InvalidAccessKeyId"),
        (Credentials("AKIDEXPIRED", "gone"), ExpiredCredentials, "ExpiredToken"),
        (None, AccessDenied, "AccessDenied"),
    ],
)
async def test_who_is_refused_by_a_server_that_looks_at_everything(
    way: Way,
    identity: Credentials | None,
    kind: type[OriginError],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expired = Credentials("AKIDEXPIRED", "gone")
    if identity is not None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", identity.secret_access_key)
    async with FaultServer({"k": b"x"}, credentials=OWNER) as server:
        server.accept(expired)
        server.expire(expired)
        for call in (reading(s3("bucket", "k")), lambda origin: origin.stat(s3("bucket", "k"))):
            error = await refused(way, server.endpoint_url, call, anonymous=identity is None)
            assert (type(error), error.code) == (kind, code)
            assert error.request_id


@ways
async def test_nobody_to_sign(way: Way) -> None:
    async with FaultServer({"k": b"x"}, credentials=OWNER) as server:
        error = await refused(way, server.endpoint_url, reading(s3("bucket", "k")))
        assert type(error) is NoCredentials
        assert not server.asked()


async def test_a_clock_that_is_not_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER.secret_access_key)
    async with FaultServer({"k": b"x"}, credentials=OWNER, clock=7200.0) as server:
        # The native way allows for it, as the tests of what it learns see.
        error = await refused("boto", server.endpoint_url, reading(s3("bucket", "k")))
    assert (type(error), error.code) == (ClockSkewed, "RequestTimeTooSkewed")
    assert "2 h 0 min behind the origin's" in str(error) or "1 h 59 min behind" in str(error)
