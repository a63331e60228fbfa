"""Where a bucket is reached, and whether the native origin may go there: decided once a bucket.

AWS's rules (regions, dual-stack, FIPS, acceleration, access points) are botocore's to know: a request that it writes,
and is kept from sending, says host, path, region and service, and which algorithm signs. Endpoints of others need no
rules.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from asyncfetch.errors import UsageError
from asyncfetch.http import Endpoint
from asyncfetch.origins.boto_models import share_models
from asyncfetch.origins.proxies import configured_proxy
from asyncfetch.origins.signing import Target

if TYPE_CHECKING:
    from asyncfetch.settings import Access

logger = logging.getLogger(__name__)

_PROBE = "asyncfetch-probe"  # the key of the request that is written, to be cut off again
_EXPRESS = ("--x-s3", "--xa-s3")  # directory buckets: a session of their own signs for them


class Reached(NamedTuple):
    """How the native origin reaches a bucket."""

    target: Target
    endpoint: Endpoint


class NotNative(NamedTuple):
    """Why the native origin leaves a bucket to the reference. `worth_a_word` where the user might wonder."""

    reason: str
    worth_a_word: bool = False


def is_directory_bucket(bucket: str) -> bool:
    """Whether it is a bucket of S3 Express, or an access point of one. ETags there are no MD5s (AWS: API_Object)."""
    return bucket.endswith(_EXPRESS)


def resolve(bucket: str, access: Access, region: str | None) -> Reached | NotNative:
    """Finds out where a bucket is. May read files and load botocore: for a thread.

    Raises `UsageError` for an endpoint, region or bucket that no request can be written for.
    """
    endpoint_url = access.endpoint
    if endpoint_url is not None and (access.dual_stack or access.fips or access.accelerate):
        raise UsageError(
            "dual-stack, FIPS and accelerated endpoints are AWS's own, and endpoint_url names another",
            remedy="Leave out either.",
        )
    if access.origin == "boto":
        return NotNative("the reference origin was asked for")
    if is_directory_bucket(bucket):
        return NotNative("it is a directory bucket, which needs a session of its own")
    target: Target | NotNative
    if endpoint_url is not None and not bucket.startswith("arn:"):
        virtual = access.addressing == "virtual"
        target = Target.for_bucket(bucket, endpoint_url=endpoint_url, region=region or "us-east-1", virtual=virtual)
    else:
        target = _by_the_rules(bucket, access, region)
    if isinstance(target, NotNative):
        return target
    endpoint = endpoint_of(f"{target.scheme}://{target.host}")
    proxy = configured_proxy(endpoint)
    if access.customer_key is not None:
        check_private(endpoint)
    return NotNative(f"{proxy} is set in the environment", worth_a_word=True) if proxy else Reached(target, endpoint)


def endpoint_of(url: str) -> Endpoint:
    """What is connected to for a URL of http or https, which has a host."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname or "", parts.port or (443 if tls else 80), tls)


def check_private(endpoint: Endpoint) -> None:
    """Raises `UsageError` where a secret on its way to an endpoint could be read: neither over TLS nor on this machine.

    Looks at the proxies: for a thread.
    """
    if not endpoint.tls and not (_is_here(endpoint.host) and configured_proxy(endpoint) is None):
        raise UsageError(
            f"customer_key would go to {endpoint} for everybody to read", remedy="Reach the endpoint by https."
        )


def rule_options(access: Access) -> dict[str, Any]:
    """What botocore's `Config` is to hold so that its endpoint rules choose as an access says."""
    options: dict[str, Any] = {}
    if access.dual_stack is not None:
        options["use_dualstack_endpoint"] = access.dual_stack
    if access.fips is not None:
        options["use_fips_endpoint"] = access.fips
    s3: dict[str, Any] = {}
    if access.addressing != "auto":  # which botocore understands as `Access` does, or as the profile says
        s3["addressing_style"] = access.addressing
    if access.accelerate is not None:
        s3["use_accelerate_endpoint"] = access.accelerate
    if s3:
        options["s3"] = s3
    return options


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _by_the_rules(bucket: str, access: Access, region: str | None) -> Target | NotNative:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ParamValidationError

    try:
        session = botocore.session.Session(profile=access.profile)
        share_models(session)
        client = session.create_client(
            "s3",
            # Only a client in the partition of an access point (China, GovCloud) may go to it.
            region_name=_region_of(bucket) or region or access.region,
            endpoint_url=access.endpoint,
            aws_access_key_id="probe",
            aws_secret_access_key="probe",  # noqa: S106 - what it signs is not sent
            config=Config(**rule_options(access)),
        )
        # A URL that is presigned would not do: those of S3 have the global endpoint, wherever the bucket is.
        client.meta.events.register("before-send.s3.GetObject", _show)
        client.get_object(Bucket=bucket, Key=_PROBE)
    except _ShownError as shown:
        url, authorization = shown.url, shown.authorization
    except ParamValidationError as error:
        raise UsageError(f"{bucket!r} cannot be a bucket's name") from error
    except BotoCoreError as error:
        return NotNative(f"botocore gives no address for it ({type(error).__name__})")
    signed = _SIGNED.match(authorization)
    if signed is None:
        return NotNative("it is not signed for by Signature Version 4")
    return Target.from_url(url.removesuffix(_PROBE), region=signed[1], service=signed[2])


def _region_of(bucket: str) -> str | None:
    """The region that an ARN names; a bucket's name and a multi-region access point name none."""
    parts = bucket.split(":", 4)
    return parts[3] or None if len(parts) == 5 else None


_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=probe/[0-9]+/([^/]+)/([^/]+)/aws4_request,")


class _ShownError(Exception):
    def __init__(self, url: str, authorization: str) -> None:
        super().__init__("a request was written, and is not sent")
        self.url = url
        self.authorization = authorization


def _show(request: Any, **rest: Any) -> None:
    authorization = request.headers.get("Authorization") or b""
    raise _ShownError(request.url, authorization if isinstance(authorization, str) else authorization.decode())


def exposed_host(endpoint_url: str | None) -> str | None:
    """The host that requests to an endpoint go to in the clear, None where TLS or this machine keeps them."""
    parts = urlsplit(endpoint_url or "")
    host = parts.hostname
    if parts.scheme != "http" or host is None or host == "localhost" or host.endswith(".localhost"):
        return None
    try:
        return None if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host


def warn_if_exposed(endpoint_url: str) -> None:
    """Says once a process and host, in the log, that what is signed for goes to an endpoint in the clear."""
    host = exposed_host(endpoint_url)
    if host is not None:
        _warn_of(host)


@cache  # who writes opens a client of its own each time
def _warn_of(host: str) -> None:
    logger.warning(
        "Requests to http://%s are signed and not encrypted: whoever is on the way can read what they bring, and "
        "repeat them; use https://",
        host,
    )


def environment_region() -> str | None:
    """The region that the environment names, in the order of botocore and the AWS CLI."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
