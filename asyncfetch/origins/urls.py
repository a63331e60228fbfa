"""Where a URL leads: the connection, the Host header and the request target. Nothing here does I/O."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from asyncfetch.http import Endpoint
from asyncfetch.presigned import redacting

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^][:@/?#\\\s]+))(?::([0-9]{0,5}))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9_.-]{1,253}")
# What neither path nor query may contain as it is (RFC 3986, sections 3.3 and 3.4), and a `%` that encodes nothing.
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|[^!$%&'()*+,./0-9:;=?@A-Z_a-z~-]", re.ASCII)


class UnfitURL(ValueError):
    """Raised where no request can be written for a URL. The message says why, and does not repeat the URL."""


@redacting
class Page(NamedTuple):
    """Where a request for a web object goes. `host` is the Host header's value, `target` stands in the request line."""

    scheme: str
    endpoint: Endpoint
    host: str
    target: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"


def find_page(scheme: str, authority: str, path: str) -> Page:
    """Reads the parts of a URL; `path` is all that follows the host, without a fragment.

    A name that is not ASCII is put as DNS has it (IDNA), and whatever a path or query cannot contain is percent-encoded
    as UTF-8, once: what is encoded already stays, and so do `..` and `//`. Raises `UnfitURL`, for a user name or a
    password too.
    """
    endpoint, host = _server(scheme, authority)
    if not path.startswith("/"):
        raise UnfitURL("its path does not begin with a slash")
    try:
        return Page(scheme, endpoint, host, _UNSAFE.sub(_percent_encoded, path))
    except UnicodeEncodeError:
        raise UnfitURL("it is not valid Unicode") from None


def follow(page: Page, location: str) -> Page:
    """The page that a redirect from another leads to; `location` is the header as it came, relative or not.

    Raises `UnfitURL` for one that cannot be read or leads from https to http.
    """
    try:
        # Raw bytes are UTF-8 in practice; those that are not are encoded as they are.
        text = location.encode("latin-1").decode(errors="surrogateescape")
        parts = urlsplit(urljoin(str(page), text))
    except ValueError:
        raise UnfitURL("its Location is no URL") from None
    if parts.scheme not in _PORTS:
        raise UnfitURL(f"it leads to {parts.scheme}://")
    if page.scheme == "https" and parts.scheme == "http":
        raise UnfitURL("it leads from https to http, where anybody on the way can change what is read")
    query = f"?{parts.query}" if parts.query else ""
    return find_page(parts.scheme, parts.netloc, (parts.path or "/") + query)


@lru_cache(maxsize=1024)
def _server(scheme: str, authority: str) -> tuple[Endpoint, str]:
    """The endpoint, and the Host header's value."""
    if "@" in authority:
        raise UnfitURL("a user name or password in a URL would end in logs and in the cache")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UnfitURL("it names no host that could be reached")
    address, name, port = found.groups()
    try:
        if address is not None:
            name = str(IPv6Address(address))
        elif not name.isascii():
            name = name.encode("idna").decode()
    except ValueError:
        raise UnfitURL("its host is not the name of a host") from None
    name = name.lower()
    if address is None and not _NAME.fullmatch(name):
        raise UnfitURL("its host is not the name of a host")
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number < 1 << 16:
        raise UnfitURL(f"{number} is not the number of a port")
    endpoint = Endpoint(name, number, scheme == "https")
    if number != _PORTS[scheme]:
        return endpoint, str(endpoint)
    return endpoint, f"[{name}]" if address is not None else name


def _percent_encoded(found: re.Match[str]) -> str:
    return quote(found[0].encode(errors="surrogateescape"), safe="")
