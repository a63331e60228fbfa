"""The reference origin: who asks, and where it is asked."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from asyncfetch.errors import (
    AccessDenied,
    AsyncfetchError,
    EndpointUnreachable,
    ExpiredCredentials,
    InvalidCredentials,
    InvalidURI,
    NoCredentials,
    ObjectNotFound,
    RequestRefused,
    TransferInterrupted,
    WrongRegion,
)
from asyncfetch.origins.boto import BotoOrigin
from asyncfetch.settings import Access, Settings
from asyncfetch.testing import Ending, RawRequest, ScriptedServer, answer
from asyncfetch.uris import s3
from tests.origins.places import S3Place
from tests.origins.scripts import KEY_ID, OBJECT, SECRET, head_of, listed, read, refusing
from tests.origins.sinks import Collector
from tests.servers import MOTO, Capabilities, Server, needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer


# Who asks.


async def test_without_credentials_nothing_is_asked(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer() as server:
        origin = opened(server.url)
        for call in (origin.stat(OBJECT), read(origin), listed(origin)):
            with pytest.raises(NoCredentials, match="AWS_PROFILE") as caught:
                await call
            assert caught.value.uri == str(OBJECT)
        assert server.requests == []


async def test_half_of_the_credentials_are_none(
    opened: Callable[..., BotoOrigin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    with pytest.raises(NoCredentials, match="AWS_SECRET_ACCESS_KEY is missing"):
        await opened("http://127.0.0.1:1").stat(OBJECT)


async def test_a_profile_that_is_not_there_is_named(
    opened: Callable[..., BotoOrigin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = opened("http://127.0.0.1:1", profile="nobody")
    with pytest.raises(NoCredentials, match="no profile 'nobody'"):
        await origin.stat(OBJECT)
    # Once it is there, it is found.
    (tmp_path / "config").write_text("[profile nobody]\naws_access_key_id = a\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(EndpointUnreachable):
        await origin.stat(OBJECT)


async def test_a_profile_brings_its_keys_its_region_and_its_endpoint(
    opened: Callable[..., BotoOrigin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy shows the whole URL, and spares the name its resolution.
    async with ScriptedServer(lambda request: answer(b"body")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        config = tmp_path / "config"
        config.write_text(
            "[profile mine]\naws_access_key_id = AKIDOFTHEPROFILE\naws_secret_access_key = s\nregion = eu-north-1\n"
            "services = here\n[services here]\ns3 =\n  endpoint_url = http://storage.example\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        assert await read(opened(profile="mine")) == b"body"
        assert "Credential=AKIDOFTHEPROFILE/" in (proxy.requests[0].header("authorization") or "")
        assert "/eu-north-1/s3/" in (proxy.requests[0].header("authorization") or "")
        assert proxy.requests[0].target == "http://storage.example/bucket/key"


@pytest.mark.usefixtures("signed")
async def test_anonymous_requests_carry_no_signature(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer(lambda request: answer(b"body")) as server:
        await read(opened(server.url, anonymous=True))
        assert server.requests[0].header("authorization") is None
        await read(opened(server.url))
        assert f"Credential={KEY_ID}/" in (server.requests[1].header("authorization") or "")


@pytest.mark.usefixtures("signed")
async def test_the_requester_pays_for_every_request(opened: Callable[..., BotoOrigin]) -> None:
    page = answer(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    async with ScriptedServer([answer(), answer(), page]) as server:
        origin = opened(server.url, requester_pays=True)
        await origin.stat(OBJECT)
        await read(origin)
        assert [_ async for _ in origin.list(OBJECT)] == []
        assert [request.header("x-amz-request-payer") for request in server.requests] == ["requester"] * 3


@pytest.mark.usefixtures("signed")
async def test_each_bucket_is_reached_in_its_own_way() -> None:
    async with ScriptedServer(lambda _: answer(b"one")) as one, ScriptedServer(lambda _: answer(b"other")) as other:
        origin = BotoOrigin(
            Settings(
                access=Access(endpoint_url=one.url), buckets={"other": Access(endpoint_url=other.url, anonymous=True)}
            )
        )
        assert await read(origin) == b"one"
        sink = Collector()
        await origin.read(s3("other", "key"), sink)
        assert sink.data == b"other"
        assert other.requests[0].header("authorization") is None
        await origin.aclose()


@needs("checks_signatures")
async def test_a_wrong_secret_is_told_apart(
    server: Server, opened: Callable[..., BotoOrigin], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(server, Capabilities())
    place.put("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    origin = opened(server.endpoint_url)
    for call in (origin.stat(place.locate("a")), origin.read(place.locate("a"), Collector())):
        with pytest.raises(InvalidCredentials, match="signature does not match") as caught:
            await call
        assert caught.value.code == "SignatureDoesNotMatch"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    with pytest.raises(InvalidCredentials, match="does not know the access key"):
        [_ async for _ in opened(server.endpoint_url).list(place.locate(""))]


@needs("private_objects")
async def test_what_is_closed_to_the_public_is_denied(server: Server, opened: Callable[..., BotoOrigin]) -> None:
    place = S3Place(server, MOTO)
    place.put("a", b"x")
    origin = opened(server.endpoint_url, anonymous=True)
    for call in (origin.stat(place.locate("a")), origin.read(place.locate("a"), Collector())):
        with pytest.raises(AccessDenied) as caught:
            await call
        assert caught.value.status == 403


@needs("versions")
async def test_what_was_deleted_is_not_found_and_says_so(server: Server, opened: Callable[..., BotoOrigin]) -> None:
    place = S3Place(server, MOTO)
    place.put("a", b"x")
    place.client.delete_object(Bucket=place.bucket, Key="a")
    origin = opened(server.endpoint_url)
    with pytest.raises(ObjectNotFound, match="it was deleted"):
        await origin.stat(place.locate("a"))
    with pytest.raises(ObjectNotFound):
        await origin.read(place.locate("a"), Collector())


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("NoSuchKey", "404 Not Found", "it was deleted"),
        ("MethodNotAllowed", "405 Method Not Allowed", "this version is a delete marker"),
    ],
)
async def test_a_delete_marker_is_no_object(
    opened: Callable[..., BotoOrigin], code: str, status: str, said: str
) -> None:
    marker = refusing(code, status=status, headers=["x-amz-delete-marker: true"])
    async with ScriptedServer([marker]) as server:
        with pytest.raises(ObjectNotFound, match=said):
            await read(opened(server.url, anonymous=True))


async def test_no_error_shows_what_proves_an_identity(
    opened: Callable[..., BotoOrigin], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "tokenOfTheTests"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    signatures: list[str] = []

    def repeat_everything(request: RawRequest) -> Answer:
        authorization = request.header("authorization") or ""
        signatures.append(authorization.rpartition("=")[2])
        if len(signatures) > 3:
            return [Ending.RESET]
        code = ("ExpiredToken", "SignatureDoesNotMatch", "AccessDenied")[len(signatures) - 1]
        said = f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><Token-0>{token}</Token-0>"
        said += f"<StringToSign>{authorization}</StringToSign>"
        body = f"<Error><Code>{code}</Code><Message>{authorization}</Message>{said}</Error>"
        return answer(body.encode(), status="403 Forbidden")

    async with ScriptedServer(repeat_everything) as server:
        origin = opened(server.url)
        for kind in (ExpiredCredentials, InvalidCredentials, AccessDenied, TransferInterrupted):
            with pytest.raises(kind) as caught:
                await read(origin)
            error: BaseException | None = caught.value
            while error is not None:
                shown = f"{error!s} {error!r} {vars(error)} {pickle.dumps(error, 0)!r}"
                assert not [word for word in (KEY_ID, SECRET, token, *signatures) if word in shown]
                assert error.__context__ is error.__cause__ or error.__context__ is None
                error = error.__cause__


# Where it is asked.


@pytest.mark.parametrize(
    ("addressing", "target"),
    [("auto", "http://storage.example/bucket/key"), ("virtual", "http://bucket.storage.example/key")],
)
@pytest.mark.usefixtures("signed")
async def test_a_bucket_stands_in_the_path_or_in_the_host(
    opened: Callable[..., BotoOrigin], monkeypatch: pytest.MonkeyPatch, addressing: str, target: str
) -> None:
    # A proxy shows the whole URL, and spares the names their resolution.
    async with ScriptedServer(lambda request: answer(b"body")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await read(opened("http://storage.example", addressing=addressing)) == b"body"
        assert proxy.requests[0].target == target


def _region_of(request: RawRequest) -> str:
    return (request.header("authorization") or "").split("/")[2]


@pytest.mark.parametrize("told", ["header", "body"])
@pytest.mark.usefixtures("signed")
async def test_a_bucket_elsewhere_is_asked_there_once_and_from_then_on(
    opened: Callable[..., BotoOrigin], told: str
) -> None:
    def answers(request: RawRequest) -> Answer:
        if _region_of(request) == "eu-south-2":
            return answer(b"body") if request.method == "GET" else head_of(answer(b"body"))
        if told == "header":
            headers = ["x-amz-bucket-region: eu-south-2"]
            return refusing("PermanentRedirect", status="301 Moved Permanently", headers=headers)
        return refusing("AuthorizationHeaderMalformed", status="400 Bad Request", more="<Region>eu-south-2</Region>")

    async with ScriptedServer(answers) as server:
        origin = opened(server.url, region="us-west-1")
        assert await read(origin) == b"body"
        assert await read(origin) == b"body"
        assert (await origin.stat(OBJECT)).size == 4
        assert [_region_of(request) for request in server.requests] == ["us-west-1", *["eu-south-2"] * 3]


@pytest.mark.usefixtures("signed")
async def test_a_wrong_region_is_named_with_the_right_one(opened: Callable[..., BotoOrigin]) -> None:
    headers = ["x-amz-bucket-region: eu-south-2"]
    moved = refusing("PermanentRedirect", status="301 Moved Permanently", headers=headers)
    async with ScriptedServer(lambda request: moved if request.method == "GET" else head_of(moved)) as server:
        origin = opened(server.url, region="us-west-1")
        for call in (read(origin), origin.stat(OBJECT)):
            with pytest.raises(
                WrongRegion, match=r"in region eu-south-2, but us-west-1 was asked.*region='eu-south-2'"
            ):
                await call


@pytest.mark.usefixtures("signed")
async def test_a_region_that_nobody_tells_is_an_error_of_its_own(opened: Callable[..., BotoOrigin]) -> None:
    moved = refusing("PermanentRedirect", status="301 Moved Permanently")
    async with ScriptedServer(lambda request: moved if request.method == "GET" else head_of(moved)) as server:
        origin = opened(server.url, region="us-west-1")
        for call in (read(origin), origin.stat(OBJECT), listed(origin)):
            with pytest.raises(WrongRegion, match=r"not in region us-west-1.*does not say where"):
                await call


async def test_a_redirect_of_something_else_is_no_region(opened: Callable[..., BotoOrigin]) -> None:
    moved = answer(status="301 Moved Permanently", headers=["Location: https://storage.example/?secret"])
    async with ScriptedServer(lambda request: moved) as server:
        with pytest.raises(RequestRefused, match=r"redirect to storage\.example \(HTTP 301\)\. Check the endpoint"):
            await read(opened(server.url, anonymous=True))


@pytest.mark.parametrize(
    ("access", "said"),
    [({"region": "no region!"}, "no region!"), ({"endpoint_url": "http://127.0.0.1:99999999"}, "127.0.0.1")],
)
@pytest.mark.usefixtures("signed")
async def test_settings_that_cannot_be_used_are_refused(
    opened: Callable[..., BotoOrigin], access: dict[str, str], said: str
) -> None:
    with pytest.raises(AsyncfetchError, match=said):
        await opened(**access).stat(OBJECT)


@pytest.mark.usefixtures("signed")
async def test_names_that_s3_cannot_have_are_refused(opened: Callable[..., BotoOrigin]) -> None:
    async with ScriptedServer() as server:
        origin = opened(server.url)
        with pytest.raises(InvalidURI, match="bucket's name"):
            await origin.stat(s3("no!bucket:", "key"))
        with pytest.raises(InvalidURI, match="not an object"):
            await origin.stat(s3("bucket", ""))
        with pytest.raises(InvalidURI, match="no version"):
            [_ async for _ in origin.list(s3("bucket", "", "1"))]
        assert server.requests == []
