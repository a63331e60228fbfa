"""What an S3 server answers when it refuses, made into the package's errors: by code first, then by status.

The codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. Error documents can repeat
what the client sent to prove itself, so the server's sentences are quoted only where they say why, and without that.
"""

from __future__ import annotations

import re
import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from asyncfetch.errors import (
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    EncryptionKeyDenied,
    ExpiredCredentials,
    IntegrityError,
    InvalidCredentials,
    InvalidURI,
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
    TransferInterrupted,
    WrongRegion,
)
from asyncfetch.origins.headers import read_date, read_retry_after
from asyncfetch.origins.permissions import Permission, bucket_arn, needed, said_to_lack
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer(NamedTuple):
    """A status of 300 and above with what came along. Names of headers are in lower case.

    What stands behind `headers` is what the body says; `region` is the bucket's.
    """

    status: int
    headers: Mapping[str, str] = {}
    code: str | None = None
    message: str | None = None
    region: str | None = None
    request_id: str | None = None
    storage_class: str | None = None
    server_time: str | None = None


def refusal(
    uri: str,
    answer: Answer,
    *,
    asked_region: str | None = None,
    listing: bool = False,
    action: str | None = None,
    now: float | None = None,
) -> OriginError:
    """The error that an answer means for the object, or, when `listing`, for the bucket that was listed.

    `action` is what was to be done in the words of IAM, None a read or the listing. `now` is this machine's time in
    POSIX seconds, the present one if None.
    """
    kind, detail, remedy = _meaning(answer, asked_region, listing)
    if (kind, detail, remedy) == _DENIED:
        kind, detail, remedy = _denied(uri, answer, asked_region, listing, action)
    elif kind is ObjectArchived:
        detail, remedy = _archived(uri, answer)
    elif kind is ClockSkewed:
        detail += _skew(answer, time.time() if now is None else now)
    said = _quotable(answer.message) if kind in _QUOTED else ""
    request_id = answer.headers.get("x-amz-request-id") or answer.request_id
    reference = ", ".join(
        part for part in (answer.code or f"HTTP {answer.status}", request_id and f"request id {request_id}") if part
    )
    return kind(
        uri,
        f"{detail}{said and f': {said}'} ({reference})",
        remedy=remedy,
        code=answer.code,
        status=answer.status,
        request_id=request_id,
        retry_after=read_retry_after(answer.headers.get("retry-after"), answer.headers.get("date")),
    )


_Meaning = tuple[type[OriginError], str, str]

# Where the server's own sentence tells more than ours.
_QUOTED = frozenset({AccessDenied, EncryptionKeyDenied, RequestRefused, ServerError})
_SECRET = re.compile(
    r"(?i)aws4-hmac|x-amz-|credential\s*[=:]|signature\s*[=:]|token\s*[=:]|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
)

_NO_OBJECT: _Meaning = (ObjectNotFound, "there is no such object", "")
_NO_VERSION: _Meaning = (ObjectNotFound, "there is no such version of the object", "")
_NO_BUCKET: _Meaning = (BucketNotFound, "there is no such bucket", "Check its name and the endpoint.")
_OTHER_IDENTITY = "Another identity is chosen by profile=."
_DENIED: _Meaning = (AccessDenied, "access is denied", _OTHER_IDENTITY)
_KEY_UNFIT = "the KMS key that it is encrypted with cannot be used"
_UNSIGNED: _Meaning = (NoCredentials, "it is not open to unsigned requests", "")
_BAD_SIGNATURE: _Meaning = (
    InvalidCredentials,
    "the signature does not match the access key",
    "Check the secret access key, and that nothing between here and the endpoint changes requests.",
)
_EXPIRED: _Meaning = (ExpiredCredentials, "the credentials have expired", "")
_SLOWER: _Meaning = (Throttled, "the origin asks for fewer requests", "")
_NOT_WHOLE: _Meaning = (IntegrityError, "what came to the origin is not what was sent", "")
_FAILED: _Meaning = (ServerError, "the origin failed", "")

_BY_CODE: Mapping[str, _Meaning] = {
    "NoSuchKey": _NO_OBJECT,
    "NoSuchVersion": _NO_VERSION,
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchAccessPoint": (BucketNotFound, "there is no such access point", "Check its ARN."),
    "InvalidBucketName": (BucketNotFound, "this cannot be a bucket's name", ""),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": (AccessDenied, "access is denied to everybody: AWS has disabled it", ""),
    "AccountProblem": (AccessDenied, "access is denied because of a problem with the account", "Ask AWS Support."),
    "InvalidPayer": (AccessDenied, "access is denied because the account to be charged is disabled", ""),
    "KMS.DisabledException": (EncryptionKeyDenied, _KEY_UNFIT, "Enable the key."),
    "KMS.KMSInvalidStateException": (EncryptionKeyDenied, _KEY_UNFIT, "Look at the key's state."),
    "KMS.InvalidStateException": (EncryptionKeyDenied, _KEY_UNFIT, "Look at the key's state."),
    "KMS.InvalidKeyUsageException": (EncryptionKeyDenied, _KEY_UNFIT, "Only a key for encryption can be used."),
    "KMS.NotFoundException": (EncryptionKeyDenied, _KEY_UNFIT, "It is gone, or in another region or account."),
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "InvalidAccessKeyId": (InvalidCredentials, "the origin does not know the access key", "Check AWS_ACCESS_KEY_ID."),
    "InvalidToken": (InvalidCredentials, "the session token is not valid", "Check AWS_SESSION_TOKEN."),
    "SignatureDoesNotMatch": _BAD_SIGNATURE,
    "AuthorizationHeaderMalformed": _BAD_SIGNATURE,
    "RequestTimeTooSkewed": (ClockSkewed, "this machine's clock is wrong", ""),
    "MissingSecurityHeader": _UNSIGNED,
    "MissingAuthenticationToken": _UNSIGNED,
    "SlowDown": _SLOWER,
    "ServiceUnavailable": _SLOWER,
    "RequestLimitExceeded": _SLOWER,
    "Throttling": _SLOWER,
    "KMS.ThrottlingException": _SLOWER,
    "ThrottlingException": _SLOWER,
    "TooManyRequests": _SLOWER,
    "BandwidthLimitExceeded": _SLOWER,
    "RequestThrottled": _SLOWER,
    "RequestThrottledException": _SLOWER,
    "ThrottledException": _SLOWER,
    "InternalError": _FAILED,
    "RequestTimeout": (OriginTimeout, "the request did not come in time for the origin", ""),
    "NoSuchUpload": (TransferInterrupted, "the upload in parts was aborted by somebody else, or by a rule", ""),
    "BadDigest": _NOT_WHOLE,
    "XAmzContentChecksumMismatch": _NOT_WHOLE,
    "XAmzContentSHA256Mismatch": _NOT_WHOLE,
    "InvalidRange": (RangeNotSatisfiable, "the range begins behind the end of the object", ""),
    "PreconditionFailed": (PreconditionFailed, "the object has changed", ""),
    "InvalidObjectState": (ObjectArchived, "the object is archived", ""),
}
_REDIRECTS = frozenset({"PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException"})
_BY_STATUS: Mapping[int, _Meaning] = {
    401: _DENIED,
    403: _DENIED,
    404: _NO_OBJECT,
    408: _BY_CODE["RequestTimeout"],
    412: _BY_CODE["PreconditionFailed"],
    416: _BY_CODE["InvalidRange"],
    429: _SLOWER,
    501: (RequestRefused, "the origin cannot do this", ""),
    503: _SLOWER,
}


def _meaning(answer: Answer, asked_region: str | None, listing: bool) -> _Meaning:
    region = answer.region or answer.headers.get("x-amz-bucket-region")
    if answer.code in _REDIRECTS or (300 <= answer.status < 400 and region):
        return _elsewhere(region, asked_region)
    if answer.code == "AuthorizationHeaderMalformed" and answer.region:
        return _elsewhere(answer.region, asked_region)
    if answer.headers.get("x-amz-delete-marker") == "true" and answer.status in (404, 405):
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
        which = "it was deleted" if answer.status == 404 else "this version is a delete marker"
        return ObjectNotFound, which, "Earlier versions of it may be there: ?versionId=."
    if answer.code == "InvalidArgument" and "version" in (answer.message or "").lower():
        return _NO_VERSION
    if (meaning := _BY_CODE.get(answer.code or "")) is not None:
        return meaning
    if answer.status == 404 and listing:
        return _NO_BUCKET
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status]
    if answer.status >= 500:
        return _FAILED
    if answer.status < 400:
        host = urlsplit(answer.headers.get("location", "")).hostname
        return RequestRefused, f"it answered with a redirect to {host or 'nowhere'}", "Check the endpoint."
    return RequestRefused, "the origin refused the request", ""


def _elsewhere(region: str | None, asked: str | None) -> _Meaning:
    asked = asked or "the default"
    if region is None or region == asked:
        detail = f"the bucket is not in region {asked}, which was asked, and the origin does not say where it is"
        return WrongRegion, detail, "Pass region=, or check the endpoint."
    return WrongRegion, f"the bucket is in region {region}, but {asked} was asked", f"Pass region={region!r}."


def _denied(uri: str, answer: Answer, region: str | None, listing: bool, action: str | None) -> _Meaning:
    """Names what is missing: what the server says, else what such a request needs."""
    said = said_to_lack(answer.message)
    location = _located(uri)
    lacks = said or needed(location, region=region, listing=listing, action=action)
    if lacks.action.startswith("kms:") or (said is None and "kms" in (answer.message or "").lower()):
        kms = "kms:GenerateDataKey" if action == "s3:PutObject" else "kms:Decrypt"
        lacks = lacks if said else Permission(kms, "the object's KMS key")
        return EncryptionKeyDenied, f"access is denied: it needs {lacks}", _OTHER_IDENTITY
    if listing or action is not None:
        return AccessDenied, f"access is denied: it needs {lacks}", _OTHER_IDENTITY
    if said is not None and lacks.action != "s3:ListBucket":
        return AccessDenied, f"access is denied: it needs {lacks}", _OTHER_IDENTITY
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, "Permissions"
    bucket = lacks.resource if said else bucket_arn(location.container, region)
    detail = f"it is missing or access is denied: it needs {needed(location, region=region)}"
    return AccessDenied, detail, f"Without s3:ListBucket on {bucket} a missing key is refused alike. {_OTHER_IDENTITY}"


def _archived(uri: str, answer: Answer) -> tuple[str, str]:
    storage_class = answer.storage_class or answer.headers.get("x-amz-storage-class") or "an archive"
    location = _located(uri)
    named = f"--bucket {shlex.quote(location.container)} --key {shlex.quote(location.key)}"
    version = f" --version-id {shlex.quote(location.version)}" if location.version else ""
    remedy = f"Restore it first: aws s3api restore-object {named}{version} --restore-request Days=7"
    return f"the object is archived in {storage_class}", remedy


def _skew(answer: Answer, now: float) -> str:
    moment = _moment(answer.server_time) or read_date(answer.headers.get("date"))
    skew = 0 if moment is None else round(now - moment.timestamp())
    if abs(skew) < 1:
        return ""
    hours, rest = divmod(abs(skew), 3600)
    amount = f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
    return f": it is {amount} {'ahead of' if skew > 0 else 'behind'} the origin's"


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _located(uri: str) -> Location:
    try:
        return parse(uri)
    except InvalidURI:  # it could not be had even so, and a server was asked all the same
        return Location("s3", "*", "*")


def _quotable(message: str | None) -> str:
    """A server's sentence on one line, without its full stop; nothing where it repeats what proves an identity."""
    text = " ".join("".join(char if char.isprintable() else " " for char in message or "").split())
    if _SECRET.search(text) or text.rstrip(".").lower() in ("access denied", "forbidden"):  # which says nothing more
        return ""
    return text[:300].rstrip(". ")
