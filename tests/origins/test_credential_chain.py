"""The links of the standard chain that ask somebody: single sign-on, web identity, and the instance's own service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.credentials import SSOProvider
from botocore.tokens import SSOTokenProvider

from asyncfetch.errors import ExpiredCredentials, InvalidCredentials, NoCredentials
from asyncfetch.origins.credentials import Credentials
from tests.origins.identity import SECRET, URI, lay_home, nothing_shown, server, source, write_static

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Where logins are kept botocore learns when it is imported, from the home directory of that moment.
    for provider in (SSOProvider, SSOTokenProvider):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path / ".aws/sso/cache"))
    home = lay_home(tmp_path, monkeypatch)
    with (home / ".aws/config").open("a") as config:
        config.write(
            "[sso-session work]\nsso_start_url = https://example.com/start\nsso_region = eu-west-1\n"
            "[profile work]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = reader\n"
        )
    return home


def until(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# Single sign-on.


def log_in(home: Path, *, seconds: float = 3600, name: str = "https://example.com/start") -> None:
    """Leaves what `aws sso login` leaves."""
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True, exist_ok=True)
    token = {"startUrl": "https://example.com/start", "region": "eu-west-1", "accessToken": "hushToken"}
    file = cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json"
    file.write_text(json.dumps(token | {"expiresAt": until(seconds)}))


def portal(access_key: str, seconds: float) -> bytes:
    """What GetRoleCredentials answers."""
    found = {"accessKeyId": access_key, "secretAccessKey": SECRET, "sessionToken": "sso"}
    expiration = round((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp() * 1000)
    return json.dumps({"roleCredentials": found | {"expiration": expiration}}).encode()


async def test_a_login_of_single_sign_on_is_used_once_for_all_who_wait(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(home)
    async with server(portal("ASIASSO", 3600)) as (url, seen), source("sso") as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        many = await asyncio.gather(*[found.get(URI) for _ in range(64)])
        assert set(map(id, many)) == {id(many[0])}
        assert many[0] == Credentials("ASIASSO", SECRET, "sso")
        assert found.method == "sso"
        assert seen.qsize() == 1
        assert b"hushToken" in seen.get_nowait()


async def test_a_login_by_the_name_of_its_session(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(home, name="work")
    async with server(portal("ASIASSO", 3600)) as (url, _), source("work") as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        assert (await found.get(URI)).access_key == "ASIASSO"


async def test_a_login_that_has_ended_says_how_to_begin_another(home: Path) -> None:
    log_in(home, seconds=-60, name="work")
    async with source("work") as found:
        with pytest.raises(ExpiredCredentials, match="aws sso login --profile work") as caught:
            await found.get(URI)
        assert nothing_shown(caught.value)


async def test_a_login_that_the_portal_refuses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(home)
    refused = json.dumps({"__type": "UnauthorizedException", "message": "hushToken"}).encode()
    async with server(refused, status="401 Unauthorized") as (url, _), source("sso") as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        with pytest.raises(ExpiredCredentials, match="aws sso login") as caught:
            await found.get(URI)
        assert nothing_shown(caught.value)
        assert "hushToken" not in str(vars(caught.value))


# A role that asks for a code. Who enters it does so at a terminal, or where there is none by standard input, so it is
# asked for in a program of its own.

CODED = """
import asyncio
from asyncfetch.errors import OriginError
from asyncfetch.origins.credentials import CredentialSource

async def main():
    source = CredentialSource("coded")
    try:
        print((await source.get("s3://bucket/key")).access_key)
    except OriginError as error:
        print(type(error).__name__, error)
    await source.aclose()

asyncio.run(main())
"""


async def enter(code: str) -> str:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CODED,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # getpass says there that what is entered may be seen
        start_new_session=True,  # without a terminal
    )
    told, _ = await program.communicate(code.encode())
    return told.decode().strip()


@pytest.fixture
def coded(home: Path) -> None:
    write_static(home, "AKIASTATIC")
    with open(home / ".aws/config", "a") as config:
        config.write("[profile coded]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = static\n")
        config.write("mfa_serial = arn:aws:iam::123456789012:mfa/me\nregion = us-east-1\n")


async def test_a_code_is_asked_for_by_the_profile(coded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIACODED</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        f"<SessionToken>coded</SessionToken><Expiration>{until(3600)}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    async with server(document.encode()) as (url, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        assert await enter("123456\n") == "ASIACODED"
        assert b"TokenCode=123456" in seen.get_nowait()


async def test_without_a_terminal_to_enter_a_code_at_there_is_nobody_to_sign(coded: None) -> None:
    told = await enter("")
    assert told.startswith("NoCredentials s3://bucket/key: the role for the profile 'coded' asks for a code")
    assert "credential_process" in told


# A web identity, as in EKS.


def lend_identity(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("hushWebToken")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(home / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


async def test_a_web_identity(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lend_identity(home, monkeypatch)
    document = (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials>"
        f"<AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        f"<SessionToken>web</SessionToken><Expiration>{until(3600)}</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    async with server(document.encode()) as (url, seen), source() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        many = await asyncio.gather(*[found.get(URI) for _ in range(64)])
        assert set(many) == {Credentials("ASIAWEB", SECRET, "web")}
        assert seen.qsize() == 1


@pytest.mark.parametrize(
    ("code", "kind"), [("InvalidIdentityToken", InvalidCredentials), ("ExpiredTokenException", ExpiredCredentials)]
)
async def test_a_web_identity_that_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception]
) -> None:
    lend_identity(home, monkeypatch)
    document = f"<ErrorResponse><Error><Code>{code}</Code><Message>hushWebToken</Message></Error></ErrorResponse>"
    async with server(document.encode(), status="400 Bad Request") as (url, _), source() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        with pytest.raises(kind, match="AssumeRoleWithWebIdentity") as caught:
            await found.get(URI)
        assert "hushWebToken" not in str(caught.value) + str(vars(caught.value))


# The instance's own service (IMDSv2).


def instance(access_key: str, seconds: float) -> bytes:
    found = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": access_key, "SecretAccessKey": SECRET}
    return json.dumps(found | {"Token": "instance", "Expiration": until(seconds)}).encode()


async def test_the_role_of_an_instance_is_asked_for_once_by_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    # A token, the role's name, and its credentials.
    async with server(b"hushSession", b"reader", instance("ASIAEC2", 3600)) as (url, seen), source() as found:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        many = await asyncio.gather(*[found.get(URI) for _ in range(64)])
        assert set(many) == {Credentials("ASIAEC2", SECRET, "instance")}
        assert found.method == "iam-role"
        assert seen.qsize() == 3


async def test_an_instance_without_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    async with server(b"", status="404 Not Found") as (url, _), source() as found:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        with pytest.raises(NoCredentials, match="no credentials were found"):
            await found.get(URI)
