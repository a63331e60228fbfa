"""Which permission a request needs, in the words of IAM: what a refusal without a reason names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncfetch.uris import Location

# How S3 says who lacks what, where it does ("Access denied (403 Forbidden) errors", Amazon S3 User Guide).
_SAID = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z*]+)(?: on resource: \"?(arn:[^\s\"]+))?")


class Permission(NamedTuple):
    """An action of IAM and the ARN of what it is done to."""

    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def needed(
    location: Location, *, region: str | None = None, listing: bool = False, action: str | None = None
) -> Permission:
    """The permission to read an object, a version of one, or, when `listing`, the keys of a bucket.

    Or it is that for another `action`, on the object, or on the bucket where the location has no key. See "Required
    permissions for Amazon S3 API operations" in its User Guide. `region` tells the partition.
    """
    if action is not None:
        whole = listing or not location.key
        return Permission(action, bucket_arn(location.container, region) if whole else _object_arn(location, region))
    if listing:
        return Permission("s3:ListBucket", bucket_arn(location.container, region))
    action = "s3:GetObject" if location.version is None else "s3:GetObjectVersion"
    return Permission(action, _object_arn(location, region))


def bucket_arn(bucket: str, region: str | None) -> str:
    """The ARN of a bucket, or of the access point that is named in its place."""
    if bucket.startswith("arn:"):
        return bucket
    return f"arn:{partition_of(region)}:s3:::{bucket}"


def objects_arn(bucket: str, region: str | None) -> str:
    """What the ARN of every object of a bucket begins with: the key follows."""
    return f"{bucket_arn(bucket, region)}{'/object/' if bucket.startswith('arn:') else '/'}"


def partition_of(region: str | None) -> str:
    """The part of AWS that a region is in, as ARNs name it."""
    region = region or ""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def said_to_lack(message: str | None) -> Permission | None:
    """The permission that a server's own sentence names as missing."""
    found = _SAID.search(message or "")
    return Permission(found[1], found[2] or "the object") if found else None


def _object_arn(location: Location, region: str | None) -> str:
    return f"{objects_arn(location.container, region)}{location.key}"
