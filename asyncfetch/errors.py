"""Every exception the package raises itself: one small tree, each with the object, what happened and what to do.

All of them can be pickled, and those that Python already has a word for are also that word: `ObjectNotFound` is a
`FileNotFoundError`, `AccessDenied` a `PermissionError`, `OriginTimeout` a `TimeoutError`.

None carries what proves an identity: of a presigned URL message and `uri` show everything but that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from asyncfetch.presigned import redacted

if TYPE_CHECKING:
    from collections.abc import Callable


def _rebuild(cls: type[AsyncfetchError], args: tuple[Any, ...], state: dict[str, Any]) -> AsyncfetchError:
    try:
        error = cls.__new__(cls)
    except TypeError:  # MemoryError's own makes none of a class that has other bases beside it
        error = BaseException.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class AsyncfetchError(Exception):
    """Base of all errors of this package."""

    hint: ClassVar[str] = ""
    # How remedies are put: the command line has options where Python has keywords.
    phrase: ClassVar[Callable[[str], str]] = str

    def __init__(self, message: str, *, remedy: str = "") -> None:
        message = redacted(message)
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.hint

    def __str__(self) -> str:
        return f"{self.message}. {AsyncfetchError.phrase(self.remedy)}" if self.remedy else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UsageError(AsyncfetchError, ValueError):
    """Raised when a call cannot mean anything: an option out of range, a source of the wrong type."""


class PlanMismatch(UsageError):
    """Raised when a stream is to go on from a state that is of another plan, or of other sources."""

    hint = "Make the stream with the sources and steps it had when the state was taken."


class InvalidURI(UsageError):
    """Raised when a text cannot name an object."""

    def __init__(self, uri: str, detail: str, *, remedy: str = "") -> None:
        self.uri = redacted(uri)
        super().__init__(f"{self.uri}: {detail}", remedy=remedy)


class TooManyFailures(AsyncfetchError, RuntimeError):
    """Raised when more objects of a stream failed than its `FailureLimit` allows; `__cause__` is the last error."""

    def __init__(self, failed: int, items: int, last: Exception) -> None:
        super().__init__(f"{failed} of {items} items failed, the last with {type(last).__name__}: {last}")
        self.failed = failed
        self.items = items


class SourcesInterrupted(AsyncfetchError, RuntimeError):
    """Raised when a stream is asked for more after an interrupt, as Ctrl-C's, came while its sources were read."""

    hint = "Make it anew, and have it go on from the state() of this one."


class ExtraMissing(AsyncfetchError, ImportError):
    """Raised when a part of the package needs others that were not installed with it."""


class FetcherClosed(AsyncfetchError, RuntimeError):
    """Raised when a fetcher is used before `async with` has opened it or after it has closed."""

    hint = "Use it inside `async with`."


class ForeignUse(AsyncfetchError, RuntimeError):
    """Raised when a fetcher is used where it does not live: after a fork, or from another event loop."""

    hint = "Open a fetcher of its own there; settings can be pickled and passed on."


class CacheUnusable(AsyncfetchError, OSError):
    """Raised when the cache directory cannot serve: it is a file, not writable, or on a network file system."""


class StorageFull(AsyncfetchError, OSError):
    """Raised when an object could not be written because the cache's disk or quota is full."""

    hint = "Free space, or point cache_dir at another disk."


class DecoderUnavailable(AsyncfetchError, RuntimeError):
    """Raised when decode workers cannot be started at all: not the fault of any image."""


class ObjectError(AsyncfetchError):
    """Base of errors about one object. `uri` names it; `attempts` counts the tries that were made (0: none was)."""

    retryable: ClassVar[bool] = False

    def __init__(self, uri: str, detail: str, *, remedy: str = "", attempts: int = 0) -> None:
        # Keys of S3 stay as they are: nothing in them is signed, and items are told apart by them.
        self.uri = redacted(uri) if uri.startswith("http") else uri
        super().__init__(f"{self.uri}: {detail}", remedy=remedy)
        self.detail = redacted(detail)
        self.attempts = attempts


class OriginError(ObjectError):
    """Base of errors in reading from an origin.

    `code` is the origin's own word (S3's error code), `status` the HTTP status, `request_id` what support would ask
    for; each is None where the failure happened before there was one. `retry_after` is the wait in seconds the origin
    asked for.
    """

    def __init__(
        self,
        uri: str,
        detail: str,
        *,
        remedy: str = "",
        attempts: int = 0,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(uri, detail, remedy=remedy, attempts=attempts)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class ObjectNotFound(OriginError, FileNotFoundError):
    """Raised when there is no such object, or no such version of it."""


class BucketNotFound(OriginError, FileNotFoundError):
    """Raised when there is no such bucket."""


class NotInCache(OriginError, FileNotFoundError):
    """Raised when the fetcher is offline, for what only the origin could give."""

    hint = "Fetch it once with offline=False."


class AccessDenied(OriginError, PermissionError):
    """Raised when the origin refuses access. Without List permission S3 says so of a missing key too."""


class EncryptionKeyDenied(AccessDenied):
    """Raised when the object's KMS key may not be used by this identity, or is disabled or gone."""


class CredentialsError(OriginError, PermissionError):
    """Base of errors of the identity itself, which no other object will fare better with."""


class NoCredentials(CredentialsError):
    """Raised when no credentials were found anywhere in the standard chain."""

    hint = (
        "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or read a public bucket with anonymous=True."
    )


class ExpiredCredentials(CredentialsError):
    """Raised when the session's token has expired and could not be refreshed."""

    hint = "Run `aws sso login`, or refresh the credentials."


class InvalidCredentials(CredentialsError):
    """Raised when the access key is unknown to the origin or the signature does not match."""


class ClockSkewed(InvalidCredentials):
    """Raised when this machine's clock is too far off for its signatures to be accepted, and could not be allowed for.

    S3 refuses from 15 minutes on.
    """

    hint = "Set the clock."


class WrongRegion(OriginError):
    """Raised when the bucket lives in another region than the one that was asked."""


class PreconditionFailed(OriginError):
    """Raised when the object is no longer the version that If-Match named."""


class RangeNotSatisfiable(OriginError, ValueError):
    """Raised when a range begins behind the object's last byte."""


class ObjectArchived(OriginError):
    """Raised when the object lies in an archive storage class and must be restored first."""

    hint = "Restore it first: aws s3api restore-object."


class RequestRefused(OriginError):
    """Raised when the origin refuses for a reason that has no class of its own; see `code` and `status`."""


class EndpointUnreachable(OriginError, ConnectionError):
    """Raised when no connection could be made."""

    hint = "Check the network and the endpoint."
    retryable = True


class NameNotResolved(EndpointUnreachable):
    """Raised when DNS has no address for the endpoint's host, which may have the bucket in its name."""

    hint = "Check the endpoint, the region and the bucket's name, and that DNS works here."


class TLSFailed(EndpointUnreachable):
    """Raised when the endpoint was reached and no TLS connection came of it."""

    hint = "Check that the endpoint speaks TLS: https:// and port."


class CertificateUntrusted(TLSFailed):
    """Raised when the endpoint's certificate is not one that is trusted for its name. Another try would not help."""

    hint = "Check the endpoint and this machine's date; AWS_CA_BUNDLE names the certificates to trust."
    retryable = False


class TransferInterrupted(OriginError, ConnectionError):
    """Raised when a connection ended before the whole answer was there, or it was not the one announced."""

    retryable = True


class IntegrityError(OriginError):
    """Raised when all bytes came, and they are not those that the origin's checksum is of."""

    hint = "Something on the way, or the server's disk, changes bytes."
    retryable = True


class OriginTimeout(OriginError, TimeoutError):
    """Raised when the origin did not answer in time."""

    retryable = True


class Throttled(OriginError):
    """Raised when the origin asks for fewer requests (503 SlowDown, 429)."""

    retryable = True


class ServerError(OriginError):
    """Raised when the origin itself failed (another 5xx)."""

    retryable = True


class DecodeError(ObjectError):
    """Base of errors in making pixels of bytes that were fetched whole."""


class EmptyObject(DecodeError):
    """Raised when the object has no bytes at all."""


class UnsupportedFormat(DecodeError):
    """Raised when the content is not an image that can be read; the message says what was found."""


class ImageTooLarge(DecodeError):
    """Raised when an image has more pixels than `DecodePolicy.max_pixels` allows; nothing of it was decoded."""

    hint = "A larger DecodePolicy(max_pixels=…) lets it through."


class CorruptImage(DecodeError):
    """Raised when the content begins as an image but is truncated or damaged."""


class WorkerDied(DecodeError):
    """Raised for the one image that a decode worker was working on when it died."""


class TransformFailed(DecodeError):
    """Raised when a `transform` or mapped function raised for this item, or gave what it may not."""


class DecodeTimeout(DecodeError, TimeoutError):
    """Raised for an image that took longer than `DecodePolicy.timeout`; the worker that was at it was killed."""

    hint = "A larger DecodePolicy(timeout=…) gives it more time."


class OutOfMemory(DecodeError, MemoryError):
    """Raised when an image, or what a function made of it, takes more memory than `DecodePolicy.worker_memory`."""

    hint = "A larger DecodePolicy(worker_memory=…) gives it more."


class Quarantined(DecodeError):
    """Raised for bytes that have killed three decode workers, in this run or before; they were not decoded again."""


class NotJSON(ObjectError, ValueError):
    """Raised when the bytes of an object are not JSON in UTF-8, -16 or -32. None of them is quoted."""


class TooLarge(ObjectError, ValueError):
    """Raised when an object has more bytes than its caller was ready to take."""

    hint = "Allow more with max_bytes."
