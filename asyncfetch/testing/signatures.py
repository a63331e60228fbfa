"""Signature Version 4 from the server's side: whether a request was signed by who it says.

After AWS's "Authenticating Requests: Using the Authorization Header", and on purpose not with the code that signs: a
mistake made there would be found right here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([\w-]+)/(\w+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_WINDOW = 15 * 60.0  # seconds that clocks may differ by ("RequestTimeTooSkewed")


def fault_of(
    method: str, target: str, headers: Mapping[str, str], secrets: Mapping[str, str], *, now: float
) -> str | None:
    """The code S3 would refuse a request with, or None for one that is rightly signed.

    `target` is as it stands in the request line; names of `headers` are in lower case; `secrets` gives the secret of
    each access key that is known; `now` is the server's time in POSIX seconds.
    """
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        return "AuthorizationHeaderMalformed" if "authorization" in headers else "AccessDenied"
    access_key, day, region, service, names, signature = found.groups()
    if access_key not in secrets:
        return "InvalidAccessKeyId"
    signed = names.split(";")
    date = headers.get("x-amz-date", "")
    must = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    if not must <= set(signed) or not set(signed) <= set(headers) or not date.startswith(day):
        return "SignatureDoesNotMatch"
    path, _, query = target.partition("?")
    request = "\n".join(
        [
            method,
            path,
            _canonical(query),
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed),
            "",
            names,
            headers.get("x-amz-content-sha256", ""),
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode('latin-1')).hexdigest()}"
    key = f"AWS4{secrets[access_key]}".encode()
    for word in (day, region, service, "aws4_request", text):
        key = hmac.digest(key, word.encode(), "sha256")
    if not hmac.compare_digest(key.hex(), signature):
        return "SignatureDoesNotMatch"
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "AccessDenied"
    return "RequestTimeTooSkewed" if abs(moment.timestamp() - now) > _WINDOW else None


def _canonical(query: str) -> str:
    if not query:
        return ""
    pairs = [part.partition("=")[::2] for part in query.split("&")]
    written = sorted((quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in written)
