"""What servers answer in place of an object, and what a user is told."""

from __future__ import annotations

import pickle
import shlex
from datetime import UTC, datetime

import pytest

from asyncfetch.errors import (
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    EncryptionKeyDenied,
    ExpiredCredentials,
    InvalidCredentials,
    NoCredentials,
    ObjectArchived,
    ObjectNotFound,
    OriginError,
    OriginTimeout,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestRefused,
    ServerError,
    Throttled,
    WrongRegion,
)
from asyncfetch.origins.refusals import Answer, refusal

URI = "s3://bucket/key"


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (404, "NoSuchKey", ObjectNotFound, "no such object"),
        (404, "NoSuchVersion", ObjectNotFound, "no such version"),
        (404, "NoSuchBucket", BucketNotFound, "no such bucket"),
        (404, "NoSuchAccessPoint", BucketNotFound, "Check its ARN"),
        (400, "InvalidBucketName", BucketNotFound, "cannot be a bucket"),
        (403, "AccessDenied", AccessDenied, "s3:GetObject"),
        (403, "AllAccessDisabled", AccessDenied, "denied"),
        (403, "InvalidPayer", AccessDenied, "to be charged"),
        (400, "KMS.DisabledException", EncryptionKeyDenied, "Enable the key"),
        (400, "KMS.NotFoundException", EncryptionKeyDenied, "another region or account"),
        (400, "ExpiredToken", ExpiredCredentials, "aws sso login"),
        (403, "InvalidAccessKeyId", InvalidCredentials, "does not know the access key"),
        (400, "InvalidToken", InvalidCredentials, "AWS_SESSION_TOKEN"),
        (403, "SignatureDoesNotMatch", InvalidCredentials, "secret access key"),
        (400, "AuthorizationHeaderMalformed", InvalidCredentials, "signature"),
        (403, "RequestTimeTooSkewed", ClockSkewed, "Set the clock"),
        (403, "MissingSecurityHeader", NoCredentials, "AWS_PROFILE"),
        (301, "PermanentRedirect", WrongRegion, "region"),
        (503, "SlowDown", Throttled, "fewer requests"),
        (503, "BandwidthLimitExceeded", Throttled, "fewer requests"),
        (400, "RequestThrottled", Throttled, "fewer requests"),
        (503, None, Throttled, "fewer requests"),
        (429, None, Throttled, "fewer requests"),
        (500, "InternalError", ServerError, "failed"),
        (502, None, ServerError, "HTTP 502"),
        (501, "NotImplemented", RequestRefused, "cannot do this"),
        (400, "RequestTimeout", OriginTimeout, "in time"),
        (408, None, OriginTimeout, "in time"),
        (416, "InvalidRange", RangeNotSatisfiable, "behind the end"),
        (412, "PreconditionFailed", PreconditionFailed, "has changed"),
        (403, "InvalidObjectState", ObjectArchived, "restore-object"),
        (404, None, ObjectNotFound, "no such object"),
        (403, None, AccessDenied, "denied"),
        (401, None, AccessDenied, "denied"),
        (400, "KeyTooLongError", RequestRefused, "KeyTooLongError"),
        (418, None, RequestRefused, "HTTP 418"),
        (302, None, RequestRefused, "redirect to nowhere"),
    ],
)
def test_each_refusal_is_an_error_that_says_what_to_do(
    status: int, code: str | None, kind: type[OriginError], said: str
) -> None:
    error = refusal(URI, Answer(status, {"x-amz-request-id": "REQ"}, code), asked_region="us-east-1")
    assert type(error) is kind
    assert str(error).startswith(f"{URI}: ")
    assert said in str(error)
    assert (error.uri, error.status, error.code, error.request_id) == (URI, status, code, "REQ")
    assert "request id REQ" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_request_id_that_only_the_document_tells_is_told() -> None:
    assert refusal(URI, Answer(404, {}, "NoSuchKey", request_id="REQ")).request_id == "REQ"


def test_only_what_can_pass_is_worth_another_try() -> None:
    codes = {"SlowDown": 503, "InternalError": 500, "RequestTimeout": 400, "AccessDenied": 403, "NoSuchKey": 404}
    retryable = {code for code, status in codes.items() if refusal(URI, Answer(status, {}, code)).retryable}
    assert retryable == {"SlowDown", "InternalError", "RequestTimeout"}


def test_a_missing_page_of_a_listing_is_a_missing_bucket() -> None:
    assert type(refusal("s3://bucket/", Answer(404), listing=True)) is BucketNotFound


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(301, {"x-amz-bucket-region": "eu-west-3"}), "region eu-west-3, but us-east-1 was asked"),
        (Answer(400, {}, "AuthorizationHeaderMalformed", None, "eu-west-3"), "Pass region='eu-west-3'"),
        (Answer(400, {}, "IllegalLocationConstraintException"), "not in region us-east-1"),
        (Answer(301, {"x-amz-bucket-region": "us-east-1"}, "PermanentRedirect"), "does not say where it is"),
    ],
)
def test_a_wrong_region_names_both(answer: Answer, said: str) -> None:
    error = refusal(URI, answer, asked_region="us-east-1")
    assert type(error) is WrongRegion
    assert said in str(error)


GET = "s3:GetObject on arn:aws:s3:::bucket/key"
LIST = "s3:ListBucket on arn:aws:s3:::bucket"
WHO = "User: arn:aws:iam::1:user/me is not authorized to perform: "
KMS = "arn:aws:kms:eu-west-1:1:key/1234"


@pytest.mark.parametrize(
    ("uri", "listing", "region", "message", "kind", "said"),
    [
        (URI, False, None, "Access Denied", AccessDenied, ["missing or access is denied", GET, LIST]),
        (URI, False, None, None, AccessDenied, ["missing or access is denied", GET, LIST]),
        (f"{URI}?versionId=v1", False, None, None, AccessDenied, ["s3:GetObjectVersion on arn:aws:s3:::bucket/key"]),
        (URI, False, "cn-north-1", None, AccessDenied, ["arn:aws-cn:s3:::bucket/key"]),
        (URI, False, "us-gov-west-1", None, AccessDenied, ["arn:aws-us-gov:s3:::bucket/key"]),
        ("s3://bucket/a/", True, None, None, AccessDenied, [f"it needs {LIST} (AccessDenied)."]),
        (URI, False, None, f'{WHO}s3:GetObject on resource: "{GET[16:]}" because', AccessDenied, [f"needs {GET}"]),
        (
            URI,
            False,
            None,
            f'{WHO}s3:ListBucket on resource: "{LIST[17:]}" as',
            AccessDenied,
            ["it is missing or"],
        ),
        (URI, False, None, f"{WHO}kms:Decrypt on resource: {KMS} because", EncryptionKeyDenied, [KMS, "kms:Decrypt"]),
        (URI, False, None, "The ciphertext refers to a KMS key you may not use", EncryptionKeyDenied, ["kms:Decrypt"]),
    ],
)
def test_a_denial_names_the_permission_and_what_it_is_for(
    uri: str, listing: bool, region: str | None, message: str | None, kind: type[OriginError], said: list[str]
) -> None:
    error = refusal(uri, Answer(403, {}, "AccessDenied", message), asked_region=region, listing=listing)
    assert type(error) is kind
    assert isinstance(error, PermissionError)
    assert [part for part in said if part not in str(error)] == []


def test_an_archived_object_says_in_what_and_how_it_comes_back() -> None:
    error = refusal("s3://bucket/it's here", Answer(403, {}, "InvalidObjectState", storage_class="DEEP_ARCHIVE"))
    assert type(error) is ObjectArchived
    assert "archived in DEEP_ARCHIVE" in str(error)
    command = str(error).partition(": aws ")[2]
    assert shlex.split(command) == [
        *("s3api", "restore-object", "--bucket", "bucket", "--key", "it's here", "--restore-request", "Days=7")
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(403, {}, "RequestTimeTooSkewed", server_time="2026-01-01T03:12:00Z"), "3 h 12 min behind"),
        (Answer(403, {}, "RequestTimeTooSkewed", server_time="2025-12-31T23:43:20Z"), "16 min 40 s ahead of"),
        (Answer(403, {"date": "Thu, 01 Jan 2026 00:20:00 GMT"}, "RequestTimeTooSkewed"), "20 min 0 s behind"),
        (Answer(403, {"date": "soon"}, "RequestTimeTooSkewed", server_time="later"), "clock is wrong ("),
    ],
)
def test_a_wrong_clock_is_told_how_wrong_it_is(answer: Answer, said: str) -> None:
    error = refusal(URI, answer, now=datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert isinstance(error, InvalidCredentials)
    assert said in str(error)


def test_delete_markers_and_versions() -> None:
    marker = {"x-amz-delete-marker": "true"}
    assert "it was deleted" in str(refusal(URI, Answer(404, marker, "NoSuchKey")))
    assert "is a delete marker" in str(refusal(URI, Answer(405, marker, "MethodNotAllowed")))
    wrong = refusal(URI, Answer(400, {}, "InvalidArgument", "Invalid version id specified"))
    assert type(wrong) is ObjectNotFound


def test_the_servers_own_sentence_is_quoted_on_one_line_where_it_tells_more() -> None:
    told = "User: arn:aws:iam::1:user/me is not authorized\r\n to perform: s3:GetObject.\x1b[31m"
    error = refusal(URI, Answer(403, {}, "AccessDenied", told))
    assert "arn:aws:iam::1:user/me is not authorized to perform: s3:GetObject" in str(error)
    assert str(error).isprintable()
    assert len(str(refusal(URI, Answer(400, {}, "Odd", "x" * 10_000)))) < 500


@pytest.mark.parametrize(
    "secret",
    [
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101",
        "the key AKIAIOSFODNN7EXAMPLE is bad",
        "signature: 0123abc",
        "X-Amz-Security-Token: IQoJb3",
        "token=IQoJb3",
    ],
)
def test_a_sentence_that_repeats_what_proves_an_identity_is_not(secret: str) -> None:
    for code in ("AccessDenied", "InternalError", "Odd"):
        error = refusal(URI, Answer(400, {}, code, f"Not with {secret}!"))
        assert secret not in f"{error!s} {error!r} {vars(error)}"


def test_a_moment_to_come_back_at_is_by_the_origins_clock() -> None:
    headers = {"retry-after": "Fri, 20 Nov 2020 12:00:03 GMT", "date": "Fri, 20 Nov 2020 12:00:00 GMT"}
    assert refusal(URI, Answer(503, headers, "SlowDown")).retry_after == 3.0
