"""The native S3 origin: what it learns of a bucket's region, of the clock, and of credentials."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from asyncfetch.errors import (
    AccessDenied,
    ExpiredCredentials,
    InvalidCredentials,
    NoCredentials,
    TransferInterrupted,
    WrongRegion,
)
from asyncfetch.origins import ByteRange
from asyncfetch.testing import Ending, RawRequest, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.origins.identity import Helper, lay_home
from tests.origins.places import S3Place
from tests.origins.scripts import KEY_ID, OBJECT, SECRET, head_of, listed, read, refusing
from tests.origins.sinks import Collector
from tests.servers import MOTO, Capabilities, Server, needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.origins.s3 import S3Origin
    from asyncfetch.testing.scripted import Answer

BODY = b"0123456789"


def region_of(request: RawRequest) -> str:
    return (request.header("authorization") or "").split("/")[2]


def token_of(request: RawRequest) -> str | None:
    return request.header("x-amz-security-token")


# Regions.


def elsewhere(told: str) -> Callable[[RawRequest], Answer]:
    """A server of eu-south-2 that tells others so: in a header of a 301, or in the document of a 400."""

    def answers(request: RawRequest) -> Answer:
        if region_of(request) == "eu-south-2":
            return answer(BODY) if request.method == "GET" else head_of(answer(BODY))
        if told == "header":
            headers = ["x-amz-bucket-region: eu-south-2"]
            refused = refusing("PermanentRedirect", status="301 Moved Permanently", headers=headers)
        else:
            code, more = "AuthorizationHeaderMalformed", "<Region>eu-south-2</Region>"
            refused = refusing(code, status="400 Bad Request", more=more)
        return refused if request.method == "GET" else head_of(refused)

    return answers


@pytest.mark.parametrize("told", ["header", "document"])
@pytest.mark.parametrize("first", ["read", "stat"])
@pytest.mark.usefixtures("signed")
async def test_a_bucket_elsewhere_is_asked_there_once_and_from_then_on(
    native: Callable[..., S3Origin], told: str, first: str
) -> None:
    async with ScriptedServer(elsewhere(told)) as server:
        origin = native(server.url, region="us-west-1")
        if first == "stat":
            assert (await origin.stat(OBJECT)).size == 10
        assert await read(origin) == BODY
        assert (await origin.stat(OBJECT)).size == 10
        assert await read(origin, ByteRange(2, 5)) == b"234"
        wrong = [request for request in server.requests if region_of(request) == "us-west-1"]
        assert len(wrong) == (2 if first == "stat" and told == "document" else 1)
        assert wrong == server.requests[: len(wrong)]


@pytest.mark.parametrize("told", ["header", "document"])
@pytest.mark.usefixtures("signed")
async def test_many_that_hear_of_another_region_at_once_all_go_there(
    native: Callable[..., S3Origin], told: str
) -> None:
    async with ScriptedServer(elsewhere(told)) as server:
        origin = native(server.url, region="us-west-1")
        assert await asyncio.gather(*(read(origin) for _ in range(20))) == [BODY] * 20


@pytest.mark.usefixtures("signed")
async def test_each_bucket_has_a_region_of_its_own(native: Callable[..., S3Origin]) -> None:
    def answers(request: RawRequest) -> Answer:
        return elsewhere("header")(request) if request.target.startswith("/bucket/") else answer(b"near")

    async with ScriptedServer(answers) as server:
        origin = native(server.url, region="us-west-1")
        assert await read(origin) == BODY
        sink = Collector()
        await origin.read(s3("near", "key"), sink)
        assert sink.data == b"near"
        assert region_of(server.requests[-1]) == "us-west-1"


@pytest.mark.parametrize(
    ("region", "asked"), [("eu-south-2", ["us-west-1", "eu-south-2"]), ("no region", ["us-west-1"])]
)
@pytest.mark.usefixtures("signed")
async def test_a_region_that_does_not_help_is_an_error_that_names_it(
    native: Callable[..., S3Origin], region: str, asked: list[str]
) -> None:
    def answers(request: RawRequest) -> Answer:
        told = region if region_of(request) != region else "us-west-1"
        return refusing("PermanentRedirect", status="301 Moved", headers=[f"x-amz-bucket-region: {told}"])

    async with ScriptedServer(answers) as server:
        with pytest.raises(WrongRegion, match=r"is in region .*, but .* was asked"):
            await read(native(server.url, region="us-west-1"))
        assert [region_of(request) for request in server.requests] == asked


@pytest.mark.usefixtures("signed")
async def test_a_region_in_the_answer_to_something_else_moves_nothing(native: Callable[..., S3Origin]) -> None:
    denied = refusing("AccessDenied", status="403 Forbidden", headers=["x-amz-bucket-region: eu-south-2"])
    async with ScriptedServer([denied, answer(BODY)]) as server:
        origin = native(server.url, region="us-west-1")
        with pytest.raises(AccessDenied):
            await read(origin)
        assert await read(origin) == BODY
        assert [region_of(request) for request in server.requests] == ["us-west-1"] * 2


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
@pytest.mark.usefixtures("signed")
async def test_the_environment_names_the_region(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "eu-north-1")
    async with ScriptedServer([answer(BODY)]) as server:
        await read(native(server.url))
        assert region_of(server.requests[0]) == "eu-north-1"


# The clock.


def strict(ahead: float) -> Callable[[RawRequest], Answer]:
    """A server whose clock is so many seconds ahead of ours, and which refuses requests of another time."""

    def answers(request: RawRequest) -> Answer:
        now = time.time() + ahead
        stamp = datetime.strptime(request.header("x-amz-date") or "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(stamp.timestamp() - now) < 900:
            return answer(BODY)
        date = format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True)
        refused = refusing("RequestTimeTooSkewed", status="403 Forbidden", headers=[f"Date: {date}"])
        return refused if request.method == "GET" else head_of(refused)

    return answers


@pytest.mark.parametrize("ahead", [3600.0, -86_400.0])
@pytest.mark.usefixtures("signed")
async def test_a_clock_that_is_off_is_put_right_once(
    native: Callable[..., S3Origin], caplog: pytest.LogCaptureFixture, ahead: float
) -> None:
    async with ScriptedServer(strict(ahead)) as server:
        origin = native(server.url)
        assert await read(origin) == BODY
        assert await asyncio.gather(*(read(origin) for _ in range(10))) == [BODY] * 10
        assert len(server.requests) == 12
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "clock is off" in caplog.text


@pytest.mark.usefixtures("signed")
async def test_many_that_hear_of_the_clock_at_once_say_so_once(
    native: Callable[..., S3Origin], caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(strict(3600)) as server:
        origin = native(server.url)
        assert await asyncio.gather(*(read(origin) for _ in range(10))) == [BODY] * 10
        assert len(caplog.records) == 1


@pytest.mark.usefixtures("signed")
async def test_a_clock_that_was_put_right_meanwhile_is_believed_again(native: Callable[..., S3Origin]) -> None:
    servers = [strict(3600), strict(0)]
    async with ScriptedServer(lambda request: servers[0](request)) as server:
        origin = native(server.url)
        assert await read(origin) == BODY
        del servers[0]
        assert await read(origin) == BODY
        assert len(server.requests) == 4


@pytest.mark.parametrize("date", ["", "Date: soon", "Date: now"])
@pytest.mark.usefixtures("signed")
async def test_a_clock_that_cannot_be_put_right_is_an_error(native: Callable[..., S3Origin], date: str) -> None:
    # Written when it is sent: a suite may take longer than clocks may differ.
    now = format_datetime(datetime.now(UTC), usegmt=True)
    headers = [date.replace("now", now)] if date else []
    refused = refusing("RequestTimeTooSkewed", status="403 Forbidden", headers=headers)
    async with ScriptedServer([refused, answer(BODY)]) as server:
        with pytest.raises(InvalidCredentials, match="clock is wrong"):
            await read(native(server.url))
        assert len(server.requests) == 1


# Credentials.


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """A credential_process, chosen by the profile `helper`."""
    return Helper(lay_home(tmp_path, monkeypatch))


async def test_expired_credentials_are_renewed_once_for_all(native: Callable[..., S3Origin], helper: Helper) -> None:
    def answers(request: RawRequest) -> Answer:
        if token_of(request) == "token1":
            return refusing("ExpiredToken", status="400 Bad Request", more="<Token-0>token1</Token-0>")
        return answer(BODY)

    async with ScriptedServer(answers) as server:
        origin = native(server.url, profile="helper")
        assert await asyncio.gather(*(read(origin) for _ in range(20))) == [BODY] * 20
        assert helper.runs == 2
        assert {token_of(request) for request in server.requests} == {"token1", "token2"}
        assert region_of(server.requests[0]) == "eu-central-2"


async def test_renewed_credentials_that_have_expired_too_are_an_error(
    native: Callable[..., S3Origin], helper: Helper
) -> None:
    async with ScriptedServer(lambda request: refusing("ExpiredToken", status="400 Bad Request")) as server:
        with pytest.raises(ExpiredCredentials):
            await read(native(server.url, profile="helper"))
        assert [token_of(request) for request in server.requests] == ["token1", "token2"]


@pytest.mark.usefixtures("signed")
async def test_credentials_that_cannot_be_renewed_are_an_error(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer(lambda request: refusing("ExpiredToken", status="400 Bad Request")) as server:
        origin = native(server.url)
        for call in (read(origin), listed(origin)):
            with pytest.raises(ExpiredCredentials) as caught:
                await call
            assert caught.value.uri == str(OBJECT)
        assert len(server.requests) == 1


async def test_without_credentials_nothing_is_asked(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer() as server:
        origin = native(server.url)
        for call in (origin.stat(OBJECT), read(origin), listed(origin)):
            with pytest.raises(NoCredentials):
                await call
        assert server.requests == []


async def test_a_profile_that_is_not_there_is_named(native: Callable[..., S3Origin]) -> None:
    for endpoint in ("http://127.0.0.1:1", None):
        with pytest.raises(NoCredentials, match="no profile 'nobody'"):
            await native(endpoint, profile="nobody").stat(OBJECT)


@needs("checks_signatures")
async def test_a_wrong_secret_is_told_apart(
    server: Server, native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(server, Capabilities())
    place.put("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    origin = native(server.endpoint_url)
    for call in (origin.stat(place.locate("a")), origin.read(place.locate("a"), Collector())):
        with pytest.raises(InvalidCredentials, match="signature does not match"):
            await call
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    with pytest.raises(InvalidCredentials, match="does not know the access key"):
        [_ async for _ in native(server.endpoint_url).list(place.locate(""))]


@needs("private_objects")
async def test_what_is_closed_to_the_public_is_denied(server: Server, native: Callable[..., S3Origin]) -> None:
    place = S3Place(server, MOTO)
    place.put("a", b"x")
    origin = native(server.endpoint_url, anonymous=True)
    for call in (origin.stat(place.locate("a")), origin.read(place.locate("a"), Collector())):
        with pytest.raises(AccessDenied):
            await call


async def test_no_error_and_no_log_shows_what_proves_an_identity(
    native: Callable[..., S3Origin], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = "tokenOfTheTests"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    codes = ["ExpiredToken", "SignatureDoesNotMatch", "AccessDenied", "RequestTimeTooSkewed"]
    signatures: list[str] = []

    def repeat_everything(request: RawRequest) -> Answer:
        authorization = request.header("authorization") or ""
        signatures.append(authorization.rpartition("=")[2])
        if len(signatures) > len(codes):
            return [b"HTTP/1.1 200 OK\r\n" + request.head[-200:], Ending.CLOSE]
        said = f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><Token-0>{token}</Token-0>{authorization}"
        code = codes[len(signatures) - 1]
        body = f"<Error><Code>{code}</Code><Message>{authorization} {token}</Message>{said}</Error>"
        return answer(body.encode(), status="403 Forbidden")

    async with ScriptedServer(repeat_everything) as server:
        origin = native(server.url, region="us-east-1")
        kinds = [ExpiredCredentials, InvalidCredentials, AccessDenied, InvalidCredentials, TransferInterrupted]
        for kind in kinds:
            with pytest.raises(kind) as caught:
                await read(native(server.url, region="us-east-1") if kind is not TransferInterrupted else origin)
            error: BaseException | None = caught.value
            while error is not None:
                shown = f"{error!s} {error!r} {vars(error)} {pickle.dumps(error, 0)!r}"
                assert not [word for word in (SECRET, token, *signatures) if word in shown]
                error = error.__cause__
        assert f"{origin!r} {vars(origin)!r}".count(SECRET) == 0
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("asyncfetch")]
    assert not [line for line in ours for word in (SECRET, token, *signatures) if word in line]
