"""Signature Version 4 for S3: the whole head of a request that reads an object or writes it whole, in bytes.

The rules are those of AWS's "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)"
(docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html). S3's own differ from the general
ones in that a path is encoded once and never normalised: `//`, `.` and `..` are characters of a key.
"""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterable

    from asyncfetch.origins.credentials import Credentials

# A read has no body to sign, and TLS guards that of a write. The signature covers method, path, query and headers all
# the same.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

# What may be rewritten or dropped on the way and must not break a signature; botocore leaves out the first three.
# Everything else is signed: for `x-amz-` S3 demands it, and a range or an `if-match` that was tampered with should not
# pass either.
_UNSIGNED = frozenset(
    {
        "expect",
        "user-agent",
        "x-amzn-trace-id",
        "accept-encoding",
        "cache-control",
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "via",
    }
)
_READS = frozenset({"GET", "HEAD"})

# What the signer writes itself, and what would announce a body.
_RESERVED = frozenset(
    {
        "authorization",
        "host",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-request-payer",
        "x-amz-security-token",
        "content-length",
        "transfer-encoding",
    }
)

_HOST = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"/(?:[A-Za-z0-9/_.~%-]*/)?")
_WORD = re.compile(r"[A-Za-z0-9-]{1,64}")
_LABELS = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_is_plain = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Target:
    """One bucket at one endpoint, as requests to it are written.

    `host` is the value of the Host header, with the port where it is not the scheme's own. `path` is what stands before
    every key, percent-encoded, with a slash at both ends: `"/"` where the bucket is in the host's name, `"/bucket/"` in
    path style. Raises `UsageError` for what could not stand in a request.
    """

    scheme: str
    host: str
    path: str
    region: str
    service: str = "s3"

    def __post_init__(self) -> None:
        if self.scheme not in ("http", "https"):
            raise UsageError(f"an S3 endpoint is reached by http or https, not {self.scheme!r}")
        if not _HOST.fullmatch(self.host):
            raise UsageError(f"{self.host!r} is not the name of a host")
        if not _PREFIX.fullmatch(self.path):
            raise UsageError(f"{self.path!r} is not an encoded path with a slash at both ends")
        if not _WORD.fullmatch(self.region):
            raise UsageError(f"{self.region!r} is not the name of a region", remedy="Write it such as eu-west-1.")
        if not _WORD.fullmatch(self.service):
            raise UsageError(f"{self.service!r} is not the name of a service")

    @classmethod
    def from_url(cls, url: str, *, region: str, service: str = "s3") -> Target:
        """The bucket whose root is a URL, such as botocore's endpoint rules give: `https://bucket.s3.eu-west-1.amazonaws.com`.

        Raises `UsageError` for a URL with a user name, a query or a fragment, and as `Target` does.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"endpoint {_shown(url)!r}: {error}") from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(
                f"endpoint {_shown(url)!r} has more than a host and a path",
                remedy="Write it such as https://storage.example.com, without user name, query and fragment.",
            )
        host = parts.netloc.lower()
        if port in (None, {"http": 80, "https": 443}.get(parts.scheme)):
            host = re.sub(r":[0-9]*\Z", "", host)
        # Decoded and encoded again, for the path is signed in the one way the server will encode it.
        path = quote(unquote_to_bytes(parts.path.strip("/")))
        return cls(parts.scheme, host, f"/{path}/" if path else "/", region, service)

    @classmethod
    def for_bucket(cls, bucket: str, *, endpoint_url: str, region: str, virtual: bool = False) -> Target:
        """A bucket of an endpoint: in its path, or with `virtual` in front of its host's name.

        Raises `UsageError` for a bucket that no host can be named for, and as `from_url` does.
        """
        if not virtual:
            return cls.from_url(f"{endpoint_url.rstrip('/')}/{quote(bucket, safe='')}", region=region)
        if not _LABELS.fullmatch(bucket):
            raise UsageError(
                f"the bucket {bucket!r} cannot be part of a host's name", remedy="Address it with addressing='path'."
            )
        return cls.from_url(endpoint_url.replace("://", f"://{bucket}.", 1), region=region)


class Payload(NamedTuple):
    """The body of a PUT; `digest` is the SHA-256 that is signed, in hexadecimal, or `UNSIGNED_PAYLOAD`."""

    data: bytes
    digest: str = UNSIGNED_PAYLOAD


class Signer:
    """Writes the heads of requests to one bucket, for one thread.

    What all requests of one second share is kept, so that a GET without further headers costs 2 us, most of it its two
    digests. The day's signing key is derived when the day or the credentials change.

    `user_agent` goes with every request, unsigned. `payload_hash` is what `x-amz-content-sha256` says where there is no
    body.
    """

    def __init__(
        self,
        target: Target,
        *,
        requester_pays: bool = False,
        user_agent: str | None = None,
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> None:
        self.target = target
        # A path-style request without a key names the bucket alone, as botocore's does.
        self._root = target.path.rstrip("/") or "/"
        self._always = [("host", target.host)]
        if requester_pays:
            self._always.append(("x-amz-request-payer", "requester"))
        self._agent = checked_headers([("user-agent", user_agent)]) if user_agent else []
        self._anonymous = _lines([*self._always, *self._agent])
        self._payload_hash = payload_hash
        # The credentials, the day and the second that the fields below were made for.
        self._credentials: Credentials | None = None
        self._day = ""
        self._second = -1
        self._key = b""
        self._scope = ""
        self._inner, self._outer = _mac_states(b"")
        self._dated: list[tuple[str, str]] = []
        self._plain = "", ""

    def head(
        self,
        method: str,
        key: str,
        *,
        credentials: Credentials | None,
        now: float,
        query: Iterable[tuple[str, str]] = (),
        headers: Iterable[tuple[str, str]] = (),
        payload: Payload | None = None,
    ) -> bytes:
        """The head of one request, blank line included: a GET or a HEAD, or with a payload a PUT.

        `key` is the raw key; empty, the request is for the bucket (a listing). `credentials` None leaves it unsigned.
        `now` is the time in POSIX seconds by the origin's clock: the own clock plus what it was found to differ by, for
        S3 refuses a difference of more than 15 minutes. `query` and `headers` are raw; a flag such as `?acl` has an
        empty value.

        Raises `UsageError` for a key or query that is not Unicode, and for headers that are given twice, are the
        signer's own, or have a character other than printable ASCII.
        """
        if method not in _READS and (method != "PUT" or payload is None):
            raise UsageError(f"only GET, HEAD, and PUT with a payload are written here, not {method!r}")
        path = self.target.path + encoded_key(key) if key else self._root
        arguments = encoded_query(query) if query else ""
        target = f"{path}?{arguments}" if arguments else path
        extra = checked_headers(headers) if headers else []
        if payload is not None:
            extra.append(("content-length", str(len(payload.data))))
        if credentials is None:
            return f"{method} {target} HTTP/1.1\r\n{self._anonymous}{_lines(extra)}\r\n".encode("ascii")
        if credentials is not self._credentials or int(now) != self._second:
            self._renew(credentials, int(now))
        payload_hash = self._payload_hash if payload is None else payload.digest
        canonical, sent = self._around(extra, payload_hash) if extra else self._plain
        digest = sha256(f"{method}\n{path}\n{arguments}\n{canonical}".encode("ascii")).hexdigest()
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(digest.encode("ascii"))
        outer.update(inner.digest())
        return f"{method} {target} HTTP/1.1\r\n{sent}{outer.hexdigest()}\r\n\r\n".encode("ascii")

    def _renew(self, credentials: Credentials, second: int) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day, region, service = stamp[:8], self.target.region, self.target.service
        scope = f"{day}/{region}/{service}/aws4_request"
        if day != self._day or credentials != self._credentials:
            self._key, self._day = signing_key(credentials, scope), day
        self._credentials, self._second, self._scope = credentials, second, scope
        # The string to sign but for its last line, which is the digest of the request.
        self._inner, self._outer = _mac_states(self._key)
        self._inner.update(f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n".encode("ascii"))
        self._dated = [("x-amz-date", stamp)]
        if credentials.token:
            self._dated.append(("x-amz-security-token", credentials.token))
        self._plain = self._around([], self._payload_hash)

    def _around(self, extra: list[tuple[str, str]], payload_hash: str) -> tuple[str, str]:
        """What follows the query in the canonical request, and the request line in the head up to the signature."""
        assert self._credentials is not None
        always = [*self._always, ("x-amz-content-sha256", payload_hash), *self._dated]
        signed = sorted(always + [header for header in extra if header[0] not in _UNSIGNED])
        names = ";".join([name for name, _ in signed])
        canonical = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in signed])
        sent = _lines([*always, *extra, *self._agent])
        identity = f"{self._credentials.access_key}/{self._scope}"
        return (
            f"{canonical}\n{names}\n{payload_hash}",
            f"{sent}authorization: AWS4-HMAC-SHA256 Credential={identity}, SignedHeaders={names}, Signature=",
        )


def _mac_states(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The inner and the outer digest of HMAC-SHA256 (RFC 2104, section 2) once each has taken the key.

    The standard library's `hmac` has the same in three functions of Python around each copy; a request has one.
    """
    block = key.ljust(64, b"\0")
    return sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))


def signing_key(credentials: Credentials, scope: str) -> bytes:
    """The key that signs what is of a scope, `"<day>/<region>/<service>/aws4_request"`."""
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode("ascii"), "sha256")
    return key


def encoded_key(key: str) -> str:
    """A raw key as it stands in a path. Raises `UsageError` for one that is not Unicode."""
    return key if _is_plain(key) else quoted(key, "/")


def encoded_query(query: Iterable[tuple[str, str]]) -> str:
    """A query as it is signed and sent: encoded and sorted. Raises `UsageError` for what is not Unicode."""
    # Sorted as pairs: as joined text, "a-b=" would come before "a=".
    pairs = sorted([(quoted(name, ""), quoted(value, "")) for name, value in query])
    return "&".join([f"{name}={value}" for name, value in pairs])


def quoted(text: str, safe: str) -> str:
    """Text percent-encoded as UTF-8, but for what is `safe`. Raises `UsageError` where it is not Unicode."""
    try:
        return quote(text, safe)
    except UnicodeEncodeError:
        raise UsageError(f"{text!a} is not valid Unicode", remedy="Keys of S3 are UTF-8.") from None


def checked_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers with their names in lower case, once nothing in them can end a line or pass for another header."""
    checked = [(name.lower(), value) for name, value in headers]
    for name, value in checked:
        if not _TOKEN.fullmatch(name):
            raise UsageError(f"{name!r} is not the name of a header")
        if name in _RESERVED:
            raise UsageError(f"the header {name!r} is written by the signer itself")
        if not (value.isascii() and value.isprintable()):  # the value is not shown: it can be a key
            raise UsageError(f"the value of the header {name!r} has a character other than printable ASCII")
    if len(dict(checked)) < len(checked):
        raise UsageError(f"a header is given twice: {', '.join(name for name, _ in checked)}")
    return checked


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def _shown(url: str) -> str:
    """A URL as a message may show it, without a password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
