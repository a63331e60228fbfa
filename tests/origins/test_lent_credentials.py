"""Credentials that somebody lends sign instead of the standard chain's, and show themselves to nobody."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import boto3
import pytest

from asyncfetch import Access, Fetcher
from asyncfetch.errors import CredentialsError, ExpiredCredentials, NoCredentials, UsageError
from asyncfetch.origins.credentials import Credentials, CredentialSource
from tests.servers import s3_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

URI = "s3://b/k"


class Frozen(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(eq=False)
class Lending:
    """Lends keys numbered by how often they were asked for, each good for so many seconds."""

    life: int | None = None
    asked: int = 0
    fails: list[Exception] = field(default_factory=list)
    has: bool = True

    def get_credentials(self) -> Any:
        if self.fails:
            raise self.fails.pop()
        return self if self.has else None

    def get_frozen_credentials(self) -> Frozen:
        self.asked += 1
        return Frozen(f"AKIA{self.asked}", "lent-secret", "lent-token")

    @property
    def refresh_needed(self) -> Any:
        if self.life is None:
            raise AttributeError
        return lambda seconds: seconds >= (self.life or 0)


async def test_a_lender_is_asked_instead_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    lender = Lending()
    source = CredentialSource(lender=lender)
    assert await source.get(URI) == Credentials("AKIA1", "lent-secret", "lent-token")
    assert source.current() == Credentials("AKIA1", "lent-secret", "lent-token")
    await source.aclose()


async def test_what_runs_out_is_asked_for_anew() -> None:
    now = 1000.0
    source = CredentialSource(lender=Lending(life=900), clock=lambda: now)
    assert (await source.get(URI)).access_key == "AKIA1"
    now += 900
    assert (await source.get(URI)).access_key == "AKIA2"
    source.invalidate(await source.get(URI))
    assert (await source.get(URI)).access_key == "AKIA3"
    await source.aclose()


@pytest.mark.parametrize(
    ("lender", "kind"),
    [
        (Lending(has=False), NoCredentials),
        (Lending(fails=[OSError("lent-secret")]), CredentialsError),
        (Lending(life=0), ExpiredCredentials),
    ],
)
async def test_a_lender_that_has_none_is_told_by_name(lender: Lending, kind: type[CredentialsError]) -> None:
    source = CredentialSource(lender=lender)
    with pytest.raises(kind, match=URI) as raised:
        await source.get(URI)
    assert "lent-secret" not in str(raised.value)
    await source.aclose()


@pytest.mark.parametrize("origin", ["native", "boto"])
async def test_both_ways_to_s3_sign_with_what_was_lent(
    rclone: Server, cache_dir: Path, origin: Literal["native", "boto"]
) -> None:
    client = s3_client(rclone)
    client.create_bucket(Bucket=f"lent-{origin}")
    client.put_object(Bucket=f"lent-{origin}", Key="a", Body=b"signed for")
    session = boto3.Session(*rclone.credentials, region_name="us-east-1")
    access = Access(endpoint_url=rclone.endpoint_url, region="us-east-1", credentials=session, origin=origin)
    async with Fetcher(cache_dir=cache_dir, access=access) as fetcher:
        assert await fetcher.read_bytes(f"s3://lent-{origin}/a") == b"signed for"
        await asyncio.gather(*(fetcher.stat(f"s3://lent-{origin}/a") for _ in range(3)))


async def test_each_bucket_signs_with_its_own(rclone: Server, cache_dir: Path) -> None:
    client = s3_client(rclone)
    client.create_bucket(Bucket="lent-own")
    client.put_object(Bucket="lent-own", Key="a", Body=b"mine")
    good = Access(endpoint_url=rclone.endpoint_url, credentials=boto3.Session(*rclone.credentials), region="r")
    bad = Access(endpoint_url=rclone.endpoint_url, credentials=boto3.Session("AKIA", "wrong"), region="r")
    async with Fetcher(cache_dir=cache_dir, access=bad, buckets={"lent-own": good}) as fetcher:
        with pytest.raises(CredentialsError):
            await fetcher.stat("s3://lent-other/a")
        assert await fetcher.read_bytes("s3://lent-own/a") == b"mine"


def test_nothing_of_a_lender_is_shown() -> None:
    access = Access(credentials=Lending())
    assert "Lending" not in repr(access)
    assert access == Access(credentials=access.credentials)
    with pytest.raises(UsageError, match="get_credentials"):
        Access(credentials="AKIA:secret")  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(Access())) == Access()
