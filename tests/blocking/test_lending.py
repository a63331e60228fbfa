"""A client or session of boto3 lends how it reaches S3."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from asyncfetch import Access, blocking
from asyncfetch.blocking import access_of
from asyncfetch.blocking.lending import Keys
from asyncfetch.blocking.shared import choose, shared
from asyncfetch.errors import CredentialsError, UsageError
from tests.servers import s3_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

SECRET = "lent-secret-7c1f"


def client(region: str | None = "eu-west-3", **options: Any) -> Any:
    config = options.pop("config", {})
    session = boto3.Session("AKIALENT", SECRET, region_name=region)
    return session.client("s3", config=Config(**config), **options)


@pytest.mark.parametrize(
    ("lender", "access"),
    [
        (client(), Access(region="eu-west-3")),
        (client(None), Access(region="us-east-1")),
        (client("us-east-1"), Access(region="us-east-1")),
        (client("cn-north-1"), Access(region="cn-north-1")),
        (
            client(endpoint_url="https://storage.example.com"),
            Access(region="eu-west-3", endpoint_url="https://storage.example.com"),
        ),
        (client(config={"s3": {"addressing_style": "path"}}), Access(region="eu-west-3", addressing="path")),
        (client(config={"s3": {"use_accelerate_endpoint": True}}), Access(region="eu-west-3", accelerate=True)),
        (client(config={"use_dualstack_endpoint": True}), Access(region="eu-west-3", dual_stack=True)),
        (client(config={"use_fips_endpoint": True}), Access(region="eu-west-3", fips=True)),
        (client(config={"signature_version": UNSIGNED}), Access(region="eu-west-3", anonymous=True)),
        (boto3.Session("AKIALENT", SECRET, region_name="eu-west-3"), Access(region="eu-west-3")),
        (botocore.session.Session(), Access()),
    ],
)
def test_what_is_lent(lender: object, access: Access) -> None:
    lent = access_of(lender)
    assert repr(lent) == repr(access)
    assert (lent.credentials is None) == access.anonymous
    assert access_of(lender) == lent, "so that one fetcher serves it"
    assert hash(access_of(lender)) == hash(lent)


def test_credentials_show_in_nothing_and_go_into_no_pickle() -> None:
    for access in (access_of(client()), Access(credentials=Keys("AKIALENT", SECRET, "token-7c1f"))):
        fetcher = blocking.Fetcher(access=access)
        assert access.credentials is not None
        assert access.credentials.get_credentials().get_frozen_credentials().secret_key == SECRET
        for shown in (repr(access), repr(access.credentials), repr(fetcher.settings), str(fetcher)):
            assert "7c1f" not in shown
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(fetcher)


@pytest.mark.parametrize("lender", [None, "AKIA", 7, Access(), boto3.Session().client("sts", "us-east-1")])
def test_others_lend_nothing(lender: object) -> None:
    with pytest.raises(UsageError, match="no S3 client"):
        access_of(lender)


def test_what_was_lent_signs(rclone: Server, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lender = s3_client(rclone)
    lender.create_bucket(Bucket="lending")
    lender.put_object(Bucket="lending", Key="a.json", Body=b'{"signed": true}')
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    session = boto3.Session(*rclone.credentials, region_name="us-east-1")
    assert blocking.get_json_s3("lending", "a.json", s3_client=lender) == {"signed": True}
    assert blocking.local_path("s3://lending/a.json", s3_client=lender).path.read_bytes() == b'{"signed": true}'
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", rclone.endpoint_url)
    assert blocking.get_json("s3://lending/a.json", s3_client=session) == {"signed": True}
    with pytest.raises(CredentialsError):
        blocking.get_json_s3("lending", "a.json", s3_client=client(endpoint_url=rclone.endpoint_url))


def test_each_access_has_one_fetcher() -> None:
    lender = client()
    assert choose() is shared
    assert choose(s3_client=lender) is choose(s3_client=lender) is not choose(s3_client=client())
    assert choose(anonymous=True) is choose(anonymous=True)
    mine = blocking.Fetcher()
    assert choose(mine) is mine
    for given in ({"fetcher": mine, "anonymous": True}, {"s3_client": lender, "anonymous": True}):
        with pytest.raises(UsageError, match="one of them"):
            choose(**given)


def test_no_more_than_eight_are_kept() -> None:
    first = client()
    kept = choose(s3_client=first)
    for _ in range(7):
        choose(s3_client=client())
    assert choose(s3_client=first) is kept, "and the one used last is the last to go"
    for _ in range(8):
        choose(s3_client=client())
    assert choose(s3_client=first) is not kept
