"""What every exception of the package promises."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from asyncfetch import errors
from asyncfetch.errors import AsyncfetchError, InvalidURI, ObjectError, OriginError, TooManyFailures

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AsyncfetchError)]
FIELDS = {
    "remedy": "do this",
    "attempts": 3,
    "code": "SlowDown",
    "status": 503,
    "request_id": "REQ",
    "retry_after": 1.5,
}


def make(kind: type[AsyncfetchError]) -> AsyncfetchError:
    """One with a value of its own in every field."""
    if issubclass(kind, OriginError):
        return kind("s3://b/k", "it happened", **FIELDS)  # type: ignore[arg-type]  # values by name
    if issubclass(kind, ObjectError):
        return kind("s3://b/k", "it happened", remedy="do this", attempts=3)
    if issubclass(kind, TooManyFailures):
        return kind(3, 10, ValueError("it happened"))
    return kind("s3://b/k", "it happened") if kind is InvalidURI else kind("it happened", remedy="do this")


@pytest.mark.parametrize("kind", ALL)
def test_an_error_comes_back_from_a_pickle_and_a_copy_as_it_was(kind: type[AsyncfetchError]) -> None:
    error = make(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert (vars(again), again.args, str(again)) == (vars(error), error.args, str(error))
    if issubclass(kind, OriginError):
        assert {name: getattr(error, name) for name in FIELDS} == FIELDS


@pytest.mark.parametrize("kind", ALL)
def test_an_error_says_when_it_is_raised(kind: type[AsyncfetchError]) -> None:
    assert (kind.__doc__ or "").startswith(("Raised when ", "Raised for ", "Base of "))


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("ObjectNotFound", FileNotFoundError),
        ("BucketNotFound", FileNotFoundError),
        ("AccessDenied", PermissionError),
        ("EncryptionKeyDenied", PermissionError),
        ("NoCredentials", PermissionError),
        ("ExpiredCredentials", PermissionError),
        ("InvalidCredentials", PermissionError),
        ("ClockSkewed", PermissionError),
        ("EndpointUnreachable", ConnectionError),
        ("NameNotResolved", ConnectionError),
        ("TLSFailed", ConnectionError),
        ("CertificateUntrusted", ConnectionError),
        ("TransferInterrupted", ConnectionError),
        ("OriginTimeout", TimeoutError),
        ("RangeNotSatisfiable", ValueError),
        ("UsageError", ValueError),
        ("OutOfMemory", MemoryError),
        ("DecodeTimeout", TimeoutError),
        ("NotInCache", FileNotFoundError),
        ("StorageFull", OSError),
    ],
)
def test_what_python_has_a_word_for_is_also_that_word(name: str, python: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), python)
