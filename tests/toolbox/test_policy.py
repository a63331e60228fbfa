"""The least policy for a prefix."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import UsageError
from asyncfetch.origins.control import Encryption
from asyncfetch.toolbox import policy
from asyncfetch.uris import parse, s3


def statements(uri: str, rights: Any = "read", **options: Any) -> dict[str, dict[str, Any]]:
    made = policy(parse(uri), rights, **options)
    assert made["Version"] == "2012-10-17"
    return {statement["Sid"]: statement for statement in made["Statement"]}


def test_reading_a_prefix() -> None:
    assert statements("s3://bucket/photos/") == {
        "List": {
            "Sid": "List",
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::bucket"],
            "Condition": {"StringLike": {"s3:prefix": ["photos/*"]}},
        },
        "Read": {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": ["arn:aws:s3:::bucket/photos/*"],
        },
    }


def test_writing_too() -> None:
    write = statements("s3://bucket/photos/", "read-write")["Write"]
    assert write["Action"] == [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    ]
    assert write["Resource"] == ["arn:aws:s3:::bucket/photos/*"]


def test_a_whole_bucket_needs_no_condition() -> None:
    made = statements("s3://bucket/")
    assert "Condition" not in made["List"]
    assert made["Read"]["Resource"] == ["arn:aws:s3:::bucket/*"]


def test_characters_that_would_stand_for_others() -> None:
    made = statements("s3://bucket/a*b?c$d/")
    assert made["Read"]["Resource"] == ["arn:aws:s3:::bucket/a${*}b${?}c${$}d/*"]
    assert made["List"]["Condition"]["StringLike"]["s3:prefix"] == ["a${*}b${?}c${$}d/*"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eu-west-1", "aws"), (None, "aws")],
)
def test_other_parts_of_aws(region: str | None, partition: str) -> None:
    made = statements("s3://bucket/p/", region=region)
    assert made["List"]["Resource"] == [f"arn:{partition}:s3:::bucket"]
    assert made["Read"]["Resource"] == [f"arn:{partition}:s3:::bucket/p/*"]


def test_an_access_point() -> None:
    point = "arn:aws:s3:us-west-2:123456789012:accesspoint/name"
    made = statements(f"s3://{point}/p/", region="us-west-2")
    assert made["List"]["Resource"] == [point]
    assert made["Read"]["Resource"] == [f"{point}/object/p/*"]


def test_a_key_of_the_customer() -> None:
    arn = "arn:aws:kms:eu-west-1:111122223333:key/k"
    key = statements("s3://b/p/", "read-write", region="eu-west-1", encryption=Encryption("aws:kms", arn))["Key"]
    assert (key["Action"], key["Resource"]) == (["kms:Decrypt", "kms:GenerateDataKey"], [arn])
    assert key["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    key = statements("s3://b/p/", encryption=Encryption("aws:kms", "k"), region="cn-north-1", account="1")["Key"]
    assert (key["Action"], key["Resource"]) == (["kms:Decrypt"], ["arn:aws-cn:kms:cn-north-1:1:key/k"])
    assert key["Condition"] == {"StringEquals": {"kms:ViaService": "s3.cn-north-1.amazonaws.com.cn"}}


@pytest.mark.parametrize("alias", ["alias/mine", "arn:aws:kms:eu-west-1:1:alias/mine"])
def test_a_key_that_is_named_by_an_alias(alias: str) -> None:
    key = statements("s3://b/p/", encryption=Encryption("aws:kms", alias))["Key"]
    assert key["Resource"] == ["arn:aws:kms:*:*:key/*"]
    assert key["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/mine"}}


@pytest.mark.parametrize("encryption", [None, Encryption("AES256"), Encryption("aws:kms")])
def test_keys_of_aws_need_no_permission(encryption: Encryption | None) -> None:
    assert "Key" not in statements("s3://b/p/", encryption=encryption)


def test_what_has_no_policy() -> None:
    with pytest.raises(UsageError, match="only S3"):
        policy(parse("/a/file"), "read")
    with pytest.raises(UsageError, match="'write'"):
        policy(parse("s3://b/p/"), "write")  # type: ignore[arg-type]


@given(
    key=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
    rights=st.sampled_from(["read", "read-write"]),
    region=st.sampled_from([None, "eu-central-1", "cn-north-1", "us-gov-west-1"]),
    encryption=st.sampled_from([None, Encryption("AES256"), Encryption("aws:kms", "alias/of-mine")]),
)
def test_every_policy_is_one_by_the_grammar(
    key: str, rights: Any, region: str | None, encryption: Encryption | None
) -> None:
    """IAM User Guide: "Grammar of the IAM JSON policy language"."""
    made = json.loads(json.dumps(policy(s3("bucket", key), rights, region=region, encryption=encryption)))
    assert set(made) == {"Version", "Statement"}
    assert made["Version"] == "2012-10-17"
    assert made["Statement"]
    sids = [statement["Sid"] for statement in made["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in made["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert re.fullmatch("[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        assert all(re.fullmatch("(s3|kms):[A-Za-z]+", action) for action in statement["Action"])
        for resource in statement["Resource"]:
            assert re.match(r"arn:(aws|aws-cn|aws-us-gov):(s3:::bucket|kms:)", resource)
            # What stands for others is the star at the end alone; a variable is `${*}`, `${?}` or `${$}`.
            literal = re.sub(r"\$\{[*?$]\}", "", resource)
            assert "$" not in literal or "kms" in resource
            assert "*" not in literal.removesuffix("*") or "kms" in resource
        for operator, conditions in statement.get("Condition", {}).items():
            assert re.fullmatch("(ForAnyValue:)?String(Equals|Like)", operator)
            assert all(re.match("(s3|kms):[A-Za-z]+$", name) for name in conditions)
