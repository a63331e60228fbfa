"""The canned LIST pages, read by a client of S3."""

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from bench import pages, servers
from bench.names import ACCESS_KEY, BUCKET, REGION, SECRET_KEY


def client(endpoint: str) -> BaseClient:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
def test_a_paginator_finds_every_key_once_and_in_order(count: int) -> None:
    with servers.listing(count) as server:
        assert server.plain is not None
        reader = client(server.plain)
        found = list(reader.get_paginator("list_objects_v2").paginate(Bucket=BUCKET))
        reader.close()
    assert len(found) == -(-count // pages.PAGE)
    listed = [(entry["Key"], entry["Size"]) for page in found for entry in page["Contents"]]
    assert listed == list(pages.keys(count))
    assert listed == sorted(listed)


def test_anything_else_is_refused() -> None:
    with servers.listing(1) as server:
        assert server.plain is not None
        reader = client(server.plain)
        with pytest.raises(ClientError, match="NotImplemented"):
            reader.get_object(Bucket=BUCKET, Key="a")
        reader.close()
