"""The least policy of IAM under which a prefix can be read, or written too.

The actions are those of "Required permissions for Amazon S3 API operations" (Amazon S3 User Guide), the condition that
of "Bucket policy examples using condition keys", the key's that of "Protecting data with SSE-KMS".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from asyncfetch.errors import UsageError
from asyncfetch.origins.permissions import bucket_arn, objects_arn, partition_of

if TYPE_CHECKING:
    from asyncfetch.origins.control import Encryption
    from asyncfetch.uris import Location

Rights = Literal["read", "read-write"]

READ = ("s3:GetObject", "s3:GetObjectVersion")
WRITE = ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject")


def policy(
    prefix: Location,
    rights: Rights,
    *,
    region: str | None = None,
    encryption: Encryption | None = None,
    account: str = "*",
) -> dict[str, Any]:
    """A policy document for exactly the keys that begin with a prefix, to be attached to a user or a role.

    Listing is allowed below the prefix only, reading and writing of objects whose keys begin with it. `region` tells
    the partition, and `account` with it where a KMS key is that is named without its ARN. `encryption` is the bucket's:
    a key of the customer's own must be allowed too, that of AWS (`aws/s3`) not.

    Raises `UsageError` for what is no prefix of S3, and other rights.
    """
    if prefix.scheme != "s3":
        raise UsageError(f"{prefix}: only S3 has policies", remedy="Write s3://bucket/prefix.")
    if rights not in ("read", "read-write"):
        raise UsageError(f"a policy is for 'read' or 'read-write', not {rights!r}")
    begins = f"{_literal(prefix.key)}*"
    listing: dict[str, Any] = {
        "Sid": "List",
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [bucket_arn(prefix.container, region)],
    }
    if prefix.key:
        listing["Condition"] = {"StringLike": {"s3:prefix": [begins]}}
    objects = f"{objects_arn(prefix.container, region)}{begins}"
    statements = [listing, {"Sid": "Read", "Effect": "Allow", "Action": [*READ], "Resource": [objects]}]
    if rights == "read-write":
        statements.append({"Sid": "Write", "Effect": "Allow", "Action": [*WRITE], "Resource": [objects]})
    if encryption is not None and encryption.algorithm.startswith("aws:kms") and encryption.key is not None:
        statements.append(_key(encryption.key, rights, region, account))
    return {"Version": "2012-10-17", "Statement": statements}


def _key(key: str, rights: Rights, region: str | None, account: str) -> dict[str, Any]:
    partition = partition_of(region)
    alias = key.rpartition(":")[2] if ":alias/" in key else key if key.startswith("alias/") else None
    place = f"arn:{partition}:kms:{region or '*'}:{account}:key"
    statement: dict[str, Any] = {
        "Sid": "Key",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", *(["kms:GenerateDataKey"] if rights == "read-write" else [])],
        "Resource": [f"{place}/*" if alias else key if key.startswith("arn:") else f"{place}/{key}"],
    }
    condition: dict[str, Any] = {}
    if region is not None:
        condition["StringEquals"] = {
            "kms:ViaService": f"s3.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"
        }
    if alias:  # a policy cannot name a key by its alias, but ask for it
        condition["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
    return statement | ({"Condition": condition} if condition else {})


def _literal(text: str) -> str:
    """A text that no character of stands for others (IAM User Guide: "IAM policy elements: Variables and tags")."""
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)
