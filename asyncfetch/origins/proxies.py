"""The proxy that the environment names for an endpoint. Native origins connect directly and have to know."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncfetch.http import Endpoint


def configured_proxy(endpoint: Endpoint) -> str | None:
    """The name of the variable that sends requests to an endpoint through a proxy, None where they may go directly.

    It is read as urllib, requests and botocore read it: `HTTPS_PROXY` or `HTTP_PROXY`, else `ALL_PROXY`, in either
    case, unless `NO_PROXY` has the host, with or without its port. On macOS the system's settings count as well, and
    looking at them can take a look-up of a name: for a thread.
    """
    proxies = urllib.request.getproxies()
    scheme = "https" if endpoint.tls else "http"
    chosen = scheme if scheme in proxies else "all" if "all" in proxies else None
    if chosen is None or any(urllib.request.proxy_bypass(form) for form in (endpoint.host, str(endpoint))):
        return None
    return f"{chosen}_proxy".upper()
