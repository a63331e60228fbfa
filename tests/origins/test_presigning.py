"""URLs signed in their query: AWS's own example, and botocore's presigner beside ours."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncfetch.errors import UsageError
from asyncfetch.origins.credentials import Credentials
from asyncfetch.origins.presigning import MAX_EXPIRES, Presigner
from asyncfetch.origins.signing import Target
from tests.origins.test_signing import IDENTITY, NOW, TARGET, TEMPORARY, odd_keys
from tests.soak import examples


def test_the_example_that_aws_published() -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters"."""
    assert calendar.timegm((2013, 5, 24, 0, 0, 0)) == NOW
    url = Presigner(TARGET, IDENTITY, now=NOW, expires=86_400).url("test.txt")
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore reads the clock that the example shows."""
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: datetime(2013, 5, 24, tzinfo=UTC)
    )


targets = st.sampled_from(
    [
        TARGET,
        Target("https", "s3.eu-west-1.amazonaws.com", "/some-bucket/", "eu-west-1"),
        Target("http", "127.0.0.1:9000", "/b/", "us-east-1"),
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.usefixtures("moment")
@settings(max_examples=examples(250))
@given(
    key=odd_keys,
    target=targets,
    credentials=st.sampled_from([IDENTITY, TEMPORARY]),
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    expires=st.integers(1, MAX_EXPIRES),
    query=st.dictionaries(
        st.sampled_from(["response-content-type", "response-content-disposition", "x-amz-request-payer"]), texts
    ),
    version=st.none() | st.sampled_from(["3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo", "null"]),
)
def test_every_url_is_the_one_that_botocore_signs(
    key: str,
    target: Target,
    credentials: Credentials,
    method: str,
    expires: int,
    query: dict[str, str],
    version: str | None,
) -> None:
    ours = Presigner(target, credentials, now=NOW, expires=expires, method=method, query=query).url(key, version)
    whole = query if version is None else query | {"versionId": version}
    asked = "&".join(f"{quote(name, '')}={quote(value, '')}" for name, value in whole.items())
    request = AWSRequest(
        method, f"{target.scheme}://{target.host}{target.path}{quote(key, '/')}" + (asked and f"?{asked}")
    )
    theirs = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    S3SigV4QueryAuth(theirs, "s3", target.region, expires).add_auth(request)
    mine, other = urlsplit(ours), urlsplit(request.url)
    assert (mine.scheme, mine.netloc, mine.path) == (other.scheme, other.netloc, other.path)
    assert sorted(parse_qsl(mine.query, True, True)) == sorted(parse_qsl(other.query, True, True))


@pytest.mark.parametrize("expires", [0, -1, MAX_EXPIRES + 1, True, 1.5])
def test_how_long_a_url_cannot_hold(expires: int) -> None:
    with pytest.raises(UsageError, match="1 second to 7 days"):
        Presigner(TARGET, IDENTITY, now=NOW, expires=expires)


def test_what_is_not_presigned() -> None:
    with pytest.raises(UsageError, match="'DELETE'"):
        Presigner(TARGET, IDENTITY, now=NOW, expires=1, method="DELETE")
    with pytest.raises(UsageError, match="not valid Unicode"):
        Presigner(TARGET, IDENTITY, now=NOW, expires=1).url("\ud800")
    with pytest.raises(UsageError, match="printable ASCII"):
        Presigner(TARGET, IDENTITY, now=NOW, expires=1, method="PUT", headers={"content-type": "a\r\nb: c"})
