import asyncio
import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aioboto3
import pytest

from asyncfetch.errors import (
    CredentialsError,
    EndpointUnreachable,
    ExpiredCredentials,
    InvalidCredentials,
    NoCredentials,
    UsageError,
)
from asyncfetch.origins.credentials import Credentials, CredentialSource
from tests.origins.identity import (
    SECRET,
    URI,
    Helper,
    boxed,
    in_environment,
    lay_home,
    nothing_shown,
    server,
    source,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return lay_home(tmp_path, monkeypatch)


@pytest.fixture
def helper(home: Path) -> Helper:
    return Helper(home)


async def test_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, AWS_SESSION_TOKEN="token", AWS_DEFAULT_REGION="eu-west-3")
    async with source() as found:
        assert await found.get(URI) == Credentials("AKIAENV", SECRET, "token")
        assert found.current() == Credentials("AKIAENV", SECRET, "token")
        assert await found.region(URI) == "eu-west-3"


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"AWS_SESSION_TOKEN": "one"},
        {"AWS_SECURITY_TOKEN": "two", "AWS_SESSION_TOKEN": "one"},
        {"AWS_SECURITY_TOKEN": "", "AWS_SESSION_TOKEN": "one"},
        {"AWS_PROFILE": "static"},
        {"AWS_DEFAULT_PROFILE": "helper"},
        {"AWS_CREDENTIAL_EXPIRATION": "2999-01-01T00:00:00Z"},
    ],
)
async def test_the_environment_means_what_it_means_to_aioboto3(
    monkeypatch: pytest.MonkeyPatch, others: dict[str, str]
) -> None:
    in_environment(monkeypatch, **others)
    theirs = await (await aioboto3.Session().get_credentials()).get_frozen_credentials()
    async with source() as found:
        ours = await found.get(URI)
    assert (ours.access_key, ours.secret_key, ours.token) == (
        theirs.access_key,
        theirs.secret_key,
        theirs.token or None,
    )


def test_keys_in_the_environment_are_read_without_loading_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch)
    program = f"""if True:
        import asyncio, sys
        from asyncfetch.origins.credentials import CredentialSource
        async def main():
            source = CredentialSource(None)
            assert (await source.get({URI!r})).access_key == "AKIAENV"
            await source.aclose()
        asyncio.run(main())
        assert not {{"botocore", "aiohttp"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_credentials_of_a_profile_and_its_region(monkeypatch: pytest.MonkeyPatch, helper: Helper) -> None:
    in_environment(monkeypatch)
    async with source("static") as found:
        assert (await found.get(URI)).access_key == "AKIASTATIC"
        assert await found.region(URI) is None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "helper")
    async with source() as found:
        assert await found.region(URI) == "eu-central-2"
        assert await found.get(URI) == Credentials("ASIA1", SECRET, "token1")


class CountingThreads(ThreadPoolExecutor):
    calls = 0

    def submit(self, *arguments: Any, **more: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(*arguments, **more)


async def test_many_that_ask_for_the_region_read_the_configuration_once(helper: Helper) -> None:
    threads = CountingThreads()
    asyncio.get_running_loop().set_default_executor(threads)
    async with source("helper") as found:
        asked = [asyncio.create_task(found.region(URI)) for _ in range(64)]
        await asyncio.sleep(0)
        asked.pop().cancel()
        assert set(await asyncio.gather(*asked)) == {"eu-central-2"}
        await found.get(URI)
    assert threads.calls == 1


async def test_credentials_past_their_time_are_not_used(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    helper.life = -10
    async with source("helper") as found:
        with pytest.raises(ExpiredCredentials, match="past their time") as caught:
            await found.get(URI)
        assert caught.value.uri == URI
        helper.life = 0.9
    async with source("helper") as found:
        with pytest.raises(ExpiredCredentials):
            await found.get(URI)
    in_environment(monkeypatch, AWS_SESSION_TOKEN="token", AWS_CREDENTIAL_EXPIRATION="2020-01-01T00:00:00Z")
    async with source() as found:
        with pytest.raises(ExpiredCredentials):
            await found.get(URI)


async def test_no_credentials_anywhere() -> None:
    async with source() as found:
        with pytest.raises(NoCredentials, match=r"s3://bucket/key: no credentials were found\. Set AWS_PROFILE"):
            await found.get(URI)
        assert await found.region(URI) is None


async def test_a_profile_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    async with source("nobody") as found:
        for asked in (found.get, found.region):
            with pytest.raises(NoCredentials, match=r"there is no profile 'nobody'.*list-profiles") as caught:
                await asked(URI)
            assert caught.value.uri == URI
    monkeypatch.setenv("AWS_PROFILE", "nobody either")
    async with source() as found:
        with pytest.raises(NoCredentials, match="there is no profile 'nobody either'"):
            await found.get(URI)


async def test_half_of_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    async with source() as found:
        with pytest.raises(NoCredentials, match="AWS_SECRET_ACCESS_KEY is missing"):
            await found.get(URI)


async def test_single_sign_on_without_a_login() -> None:
    async with source("sso") as found:
        with pytest.raises(ExpiredCredentials, match="aws sso login --profile sso"):
            await found.get(URI)


async def test_a_credential_process_that_is_not_there(home: Path) -> None:
    async with source("missing") as found:
        with pytest.raises(CredentialsError, match=f"No such file or directory .*{home}/no-such-program"):
            await found.get(URI)


async def test_a_configuration_that_cannot_be_read_shows_nothing_of_it(home: Path) -> None:
    (home / ".aws/config").write_text(f"[profile x]\n{SECRET}\n")
    async with source("x") as found:
        for asked in (found.get, found.region):
            with pytest.raises(CredentialsError, match="configuration cannot be used") as caught:
                await asked(URI)
            assert nothing_shown(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        f"print('{SECRET}')",
        f'print(\'{{"Version": 1, "SecretAccessKey": "{SECRET}"}}\')',
        f"print('[\"{SECRET}\"]')",
        f'print(\'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": ["{SECRET}"]}}\')',
        f"import sys; sys.exit('{SECRET}')",
    ],
)
async def test_what_a_broken_credential_process_wrote_is_not_shown(helper: Helper, written: str) -> None:
    (helper.directory / "helper.py").write_text(written)
    async with source("helper") as found:
        with pytest.raises(CredentialsError) as caught:
            await found.get(URI)
        assert nothing_shown(caught.value)


@pytest.mark.parametrize("value", ["AKIA\n", " AKIA", "AKI A", "AKIÄ", "AKIA\x01"])
async def test_an_access_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    in_environment(monkeypatch, value)
    async with source() as found:
        with pytest.raises(CredentialsError, match=r"the access key has.*line break"):
            await found.get(URI)


async def test_a_service_that_issues_credentials_and_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")  # the discard port, which nobody serves
    async with source("role") as found:
        with pytest.raises(EndpointUnreachable, match="issues the credentials for the profile 'role'") as caught:
            await found.get(URI)
        assert nothing_shown(caught.value)


async def test_an_assumed_role(monkeypatch: pytest.MonkeyPatch) -> None:
    expiry = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        f"<SessionToken>role</SessionToken><Expiration>{expiry}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    async with server(document.encode()) as (url, seen), source("role") as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        assert await found.get(URI) == Credentials("ASIAROLE", SECRET, "role")
        assert seen.qsize() == 1
        assert b"Action=AssumeRole" in seen.get_nowait()


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", InvalidCredentials), ("ExpiredTokenException", ExpiredCredentials)]
)
async def test_a_role_that_is_refused(monkeypatch: pytest.MonkeyPatch, code: str, kind: type[CredentialsError]) -> None:
    document = f"<ErrorResponse><Error><Code>{code}</Code><Message>{SECRET}</Message></Error></ErrorResponse>"
    async with server(document.encode(), status="403 Forbidden") as (url, _), source("role") as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        with pytest.raises(kind, match="AssumeRole") as caught:
            await found.get(URI)
        assert caught.value.code == code
        assert nothing_shown(caught.value)


async def test_credentials_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(boxed("ASIABOX", 3600)) as (url, seen), source() as found:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        assert await found.get(URI) == Credentials("ASIABOX", SECRET, "box")
        assert seen.qsize() == 1


def test_credentials_show_no_secret_and_are_not_pickled() -> None:
    identity = Credentials("AKIA", SECRET, "session-token")
    for text in (repr(identity), str(identity), f"{identity!a}", repr([identity])):
        assert "AKIA" in text
        assert SECRET not in text
        assert "session-token" not in text
    for value in (identity, CredentialSource()):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value)
        with pytest.raises(TypeError, match="not pickled"):
            copy.deepcopy(value)


@pytest.mark.parametrize(
    ("access_key", "secret_key", "token"),
    [
        ("", SECRET, None),
        ("AKIA", "", None),
        ("AKIA\r\nx: y", SECRET, None),
        ("AKIA", SECRET, "token\n"),
        ("AKIA", SECRET, "to ken"),
        ("AKIA", SECRET + "\n", None),
        ("AKIA", "\ud800", None),
    ],
)
def test_credentials_that_could_not_stand_in_a_request_are_refused(
    access_key: str, secret_key: str, token: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        Credentials(access_key, secret_key, token)
    assert SECRET not in str(caught.value)


def test_making_a_source_loads_nothing_of_boto() -> None:
    program = (
        "import sys; from asyncfetch.origins.credentials import CredentialSource; CredentialSource('x');"
        "sys.exit(bool({'aioboto3', 'aiobotocore', 'botocore', 'boto3'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode
        == 0
    )
