"""Every exception of botocore, aiohttp, TLS and sockets made into the package's errors, in one place.

What they carry (requests with signed headers, error documents that repeat a token) stays behind: an error made here has
only the operating system's own exception as its cause, and no context.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from asyncfetch.errors import (
    AsyncfetchError,
    CertificateUntrusted,
    EndpointUnreachable,
    ExpiredCredentials,
    ExtraMissing,
    InvalidCredentials,
    InvalidURI,
    NameNotResolved,
    NoCredentials,
    OriginTimeout,
    RequestRefused,
    TLSFailed,
    TransferInterrupted,
    UsageError,
)
from asyncfetch.origins.refusals import Answer, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translated(
    uri: str, *, region: str | None = None, listing: bool = False, action: str | None = None
) -> Iterator[None]:
    """Raises whatever calls of aioboto3 in its body raise as an error about `uri`; `region` is the one that was asked.

    `listing` and `action` are those of `refusal`.

    Put nothing else into the body: an OSError of somebody else's would be taken for the network's.
    """
    try:
        yield
    except AsyncfetchError:
        raise
    except Exception as error:
        meaning, cause = _translate(uri, error, region, listing, action), _system_error(error)
        if meaning is None:
            raise
        try:
            raise meaning from cause
        finally:
            meaning.__context__ = None


def answer_of(error: Any) -> Answer:
    """What a server answered, from a botocore `ClientError`. A code that only repeats the status is none."""
    response = error.response
    told = response.get("Error")
    told = told if isinstance(told, dict) else {}
    code, message, region, storage_class, server_time = (
        value if isinstance(value := told.get(name), str) and value else None
        for name in ("Code", "Message", "Region", "StorageClass", "ServerTime")
    )
    about = response.get("ResponseMetadata", {})
    return Answer(
        about.get("HTTPStatusCode", 0),
        about.get("HTTPHeaders", {}),
        None if code is None or code.isdecimal() else code,
        None if code is None or code.isdecimal() else message,
        region,
        storage_class=storage_class,
        server_time=server_time,
    )


# Of the services that say who we are: STS and single sign-on. Everything else is asked of S3.
_IDENTITY = frozenset(
    {
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "CreateToken",
        "GetCallerIdentity",
        "GetFederationToken",
        "GetRoleCredentials",
        "GetSessionToken",
    }
)
_VALUE = re.compile(r", value: .*?(?=, type: |\Z)")
_CHECK_ENDPOINT = "Check the network and the endpoint."


def _translate(
    uri: str, error: Exception, region: str | None, listing: bool, action: str | None
) -> AsyncfetchError | None:
    import aiohttp
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    match error:
        case boto.ClientError() if error.operation_name in _IDENTITY:
            return _identity_refused(uri, error.operation_name, answer_of(error))
        case boto.ClientError():
            meaning = refusal(uri, answer_of(error), asked_region=region, listing=listing, action=action)
            if action is not None:  # botocore has tried it; reads are tried, and counted, by the engine
                meaning.attempts = 1 + error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
            return meaning
        case boto.ReadTimeoutError() | boto.ConnectTimeoutError() | asyncio.TimeoutError():
            what = "connect" if isinstance(error, boto.ConnectTimeoutError) else "answer"
            return OriginTimeout(uri, f"the origin did not {what} in time", remedy=_CHECK_ENDPOINT)
        case boto.SSLError():
            refused = isinstance(_system_error(error), ssl.SSLCertVerificationError)
            kind = CertificateUntrusted if refused else TLSFailed
            return kind(uri, f"no TLS connection to {_host(error)}: {_reason(error)}")
        case boto.ProxyConnectionError():
            return EndpointUnreachable(
                uri, "no connection through the proxy", remedy="Check HTTP(S)_PROXY and NO_PROXY."
            )
        case boto.EndpointConnectionError() if isinstance(_inner(error), aiohttp.ClientConnectorError):
            unknown = isinstance(_system_error(error), socket.gaierror)
            unreached = NameNotResolved if unknown else EndpointUnreachable
            return unreached(uri, f"no connection to {_host(error)}: {_reason(error)}")
        case (
            boto.EndpointConnectionError()
            | boto.ConnectionClosedError()
            | boto.ResponseStreamingError()
            | boto.IncompleteReadError()
            | aiohttp.ClientError()
        ):
            return TransferInterrupted(uri, f"the connection ended in the middle of the answer ({_reason(error)})")
        case boto.HTTPClientError() if isinstance(_inner(error), OSError):
            return EndpointUnreachable(uri, f"no connection to the origin: {_reason(error)}")
        case boto.HTTPClientError() | ResponseParserError():
            return TransferInterrupted(uri, "what came is no answer of S3", remedy="Check the endpoint.")
        case OSError():
            return EndpointUnreachable(uri, f"no connection to the origin: {_reason(error)}")
        case boto.ParamValidationError() if "Invalid bucket name" in str(error):
            return InvalidURI(uri, "this cannot be a bucket's name")
        case boto.ParamValidationError():
            return UsageError(f"{uri}: {_unfit(str(error))}")
        case boto.BotoCoreError():
            return _not_asked(uri, error)
        case ValueError():
            return TransferInterrupted(uri, "what came is no answer of S3", remedy="Check the endpoint.")
    return None


def _not_asked(uri: str, error: Any) -> AsyncfetchError:
    """What botocore found wrong before it sent anything: credentials and configuration."""
    from botocore import exceptions as boto

    match error:
        case boto.NoCredentialsError():
            return NoCredentials(uri, "no credentials were found")
        case boto.PartialCredentialsError():
            return NoCredentials(uri, f"{error.kwargs['cred_var']} is missing, its companion is set")
        case boto.ProfileNotFound():
            return NoCredentials(
                uri,
                f"there is no profile {error.kwargs['profile']!r}",
                remedy="`aws configure list-profiles` shows those there are.",
            )
        case boto.SSOError() | boto.TokenRetrievalError():
            return ExpiredCredentials(uri, "the single sign-on session has ended")
        case boto.CredentialRetrievalError():  # its text may be what a credential process wrote
            return NoCredentials(uri, f"the provider {error.kwargs['provider']!r} gave no credentials")
        case boto.MetadataRetrievalError() | boto.RefreshWithMFAUnsupportedError():
            return NoCredentials(uri, "the credentials could not be had")
        case boto.ConfigParseError() | boto.ConfigNotFound() | boto.InvalidConfigError():
            return UsageError(f"the AWS configuration cannot be used: {error}")
        case boto.MissingDependencyException():
            return ExtraMissing(
                f"{uri}: its signature needs awscrt, which is not installed", remedy="pip install 'asyncfetch[crt]'"
            )
        case (
            boto.InvalidRegionError()
            | boto.EndpointProviderError()
            | boto.BaseEndpointResolverError()
            | boto.UnsupportedS3ConfigurationError()
            | boto.UnsupportedS3ArnError()
            | boto.UnsupportedS3AccesspointConfigurationError()
        ):
            return UsageError(f"{uri}: {error}", remedy="Check the region and the endpoint.")
    return RequestRefused(uri, f"it was not asked for ({type(error).__name__})")


def _unfit(report: str) -> str:
    """What botocore says of a parameter that it does not take, without the value: that can be a key."""
    first = report.partition("\n")[2].partition("\n")[0] or "it has a parameter of the wrong kind"
    return _VALUE.sub("", first)


def _identity_refused(uri: str, operation: str, answer: Answer) -> AsyncfetchError:
    """Another service refused to say who we are: STS, or single sign-on."""
    details: dict[str, Any] = {"code": answer.code, "status": answer.status}
    if operation in ("GetRoleCredentials", "CreateToken") or (answer.code or "").startswith("Expired"):
        return ExpiredCredentials(uri, f"the credentials have expired ({operation})", **details)
    return InvalidCredentials(uri, f"{operation} was refused ({answer.code or answer.status})", **details)


def _inner(error: Exception) -> Any:
    return getattr(error, "kwargs", {}).get("error")


def _system_error(error: Exception) -> OSError | None:
    """The operating system's part of an exception, which alone is safe to show: others carry requests and proxies."""
    import aiohttp
    from botocore.exceptions import BotoCoreError

    found = _inner(error) or error
    if isinstance(found, aiohttp.ClientConnectorCertificateError):
        found = found.certificate_error
    elif isinstance(found, aiohttp.ClientConnectorError):
        found = found.os_error
    # Both libraries have exceptions that are an OSError as well.
    return found if isinstance(found, OSError) and not isinstance(found, (aiohttp.ClientError, BotoCoreError)) else None


def _reason(error: Exception) -> str:
    system = _system_error(error)
    if system is not None:
        return getattr(system, "verify_message", "") or system.strerror or type(system).__name__
    return type(_inner(error) or error).__name__


def _host(error: Exception) -> str:
    url = urlsplit(getattr(error, "kwargs", {}).get("endpoint_url") or "")
    return f"{url.hostname}:{url.port}" if url.port else url.hostname or "the endpoint"
