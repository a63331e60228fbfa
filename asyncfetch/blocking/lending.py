"""Access to S3 that is lent by a boto3 client or session: its credentials, region and endpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from asyncfetch.errors import UsageError
from asyncfetch.settings import Access

# AWS's own endpoints are left to its rules, which know them for every bucket and region.
_AWS = re.compile(r"https://s3([.-][a-z0-9-]+)*\.amazonaws\.com(\.cn)?/?\Z")


def access_of(lender: object) -> Access:
    """How a boto3 (or botocore) client for S3, or a session, reaches it, to be used as `Fetcher(access=…)`.

    A session lends its credentials and region; a client also its endpoint, addressing style, and whether it signs at
    all. Credentials that are refreshed are asked for anew when they run out. They show in no `repr`, and an access with
    them cannot be pickled. Raises `UsageError` for what is neither.
    """
    if hasattr(lender, "meta") and hasattr(lender, "get_object"):
        return _of_client(lender)
    if hasattr(lender, "get_credentials") and (
        hasattr(lender, "region_name") or hasattr(lender, "get_config_variable")
    ):
        given: Any = lender
        region = given.region_name if hasattr(given, "region_name") else given.get_config_variable("region")
        return Access(region=region, credentials=given)
    raise UsageError(
        f"{type(lender).__name__} is no S3 client or session of boto3", remedy='Pass boto3.client("s3") or a Session.'
    )


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials that are a pair of keys. No `repr` shows the secret, and they are never pickled."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def get_credentials(self) -> Keys:
        """Themselves."""
        return self

    def get_frozen_credentials(self) -> Keys:
        """Themselves, for they never change."""
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; let the other side find its own")


@dataclass(frozen=True, slots=True)
class _ClientsCredentials:
    """Those that a client signs with. boto3 has no public way to them."""

    client: Any = field(repr=False)

    def get_credentials(self) -> Any:
        return self.client._request_signer._credentials

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; let the other side find its own")


def _of_client(client: Any) -> Access:
    from botocore import UNSIGNED

    config, endpoint_url = client.meta.config, client.meta.endpoint_url
    options = config.s3 or {}
    anonymous = config.signature_version is UNSIGNED
    region = client.meta.region_name
    style = options.get("addressing_style")
    return Access(
        endpoint_url=None if _AWS.match(endpoint_url) else endpoint_url,
        region=None if region == "aws-global" else region,
        anonymous=anonymous,
        addressing=style if style in ("path", "virtual") else "auto",
        dual_stack=config.use_dualstack_endpoint or options.get("use_dualstack_endpoint"),
        fips=config.use_fips_endpoint,
        accelerate=options.get("use_accelerate_endpoint"),
        credentials=None if anonymous else _ClientsCredentials(client),
    )
