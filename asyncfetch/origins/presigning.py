"""URLs that are signed for whoever has them: Signature Version 4 in the query.

The rules are those of AWS's "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)"
(docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html). The Host header alone is signed, and what
else a URL is to hold its holder to (`content-type` of a PUT).
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from asyncfetch.checks import count_of
from asyncfetch.errors import UsageError
from asyncfetch.origins.signing import UNSIGNED_PAYLOAD, checked_headers, encoded_key, encoded_query, signing_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.origins.credentials import Credentials
    from asyncfetch.origins.signing import Target

MAX_EXPIRES: Final = 7 * 86_400  # seconds; S3 refuses more


def checked_expires(expires: int) -> int:
    """How many seconds a URL holds. Raises `UsageError` for what is not 1 second to 7 days."""
    seconds = count_of(expires, 1, MAX_EXPIRES)
    if seconds is None:
        raise UsageError(f"a presigned URL holds for 1 second to 7 days, not for {expires!r} seconds")
    return seconds


class Presigner:
    """Signs URLs of one bucket by one method, one identity and one moment; 10 us each.

    `now` is when they begin to hold, in POSIX seconds, `expires` for how many seconds they do. `query` goes with each:
    `response-content-type` and its like, `x-amz-request-payer`. `headers` are those that whoever has a URL must send.

    Raises `UsageError` for a method other than GET, HEAD and PUT, an `expires` that is not 1 second to 7 days, and what
    `Signer.head` refuses.
    """

    def __init__(
        self,
        target: Target,
        credentials: Credentials,
        *,
        now: float,
        expires: int,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if method not in ("GET", "HEAD", "PUT"):
            raise UsageError(f"a URL is presigned for GET, HEAD or PUT, not for {method!r}")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{stamp[:8]}/{target.region}/{target.service}/aws4_request"
        signed = sorted([("host", target.host), *checked_headers((headers or {}).items())])
        names = ";".join(name for name, _ in signed)
        fixed = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(checked_expires(expires)),
            "X-Amz-SignedHeaders": names,
        }
        if credentials.token:
            fixed["X-Amz-Security-Token"] = credentials.token
        self._fixed = [*(query or {}).items(), *fixed.items()]
        self._arguments = encoded_query(self._fixed)
        self._method = method
        self._path = target.path
        self._origin = f"{target.scheme}://{target.host}"
        canonical = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in signed)
        self._end = f"\n{canonical}\n{names}\n{UNSIGNED_PAYLOAD}"
        key = signing_key(credentials, scope)
        self._mac = hmac.new(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n".encode("ascii"), "sha256")

    def url(self, key: str, version: str | None = None) -> str:
        """The URL of an object, or a version of it, by its raw key. Raises `UsageError` for one that is not Unicode."""
        path = self._path + encoded_key(key)
        query = self._arguments if version is None else encoded_query([*self._fixed, ("versionId", version)])
        digest = sha256(f"{self._method}\n{path}\n{query}{self._end}".encode("ascii")).hexdigest()
        mac = self._mac.copy()
        mac.update(digest.encode("ascii"))
        return f"{self._origin}{path}?{query}&X-Amz-Signature={mac.hexdigest()}"
