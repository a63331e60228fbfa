"""The canned LIST pages, read by a client of S3."""

from pathlib import Path

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


@pytest.mark.parametrize("name", servers.available())
def test_a_directory_is_served_with_its_listing_as_one_bucket(name: str, tmp_path: Path) -> None:
    bodies = {f"{folder}/{number:04} & more.bin": b"x" * number for number in range(501) for folder in ("a", "b")}
    for key, body in bodies.items():
        path = tmp_path / "root" / "some" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    made = servers.certificate(tmp_path)
    with servers.serve_listed(name, tmp_path / "root", "some", tmp_path, made) as server:
        assert server.plain is not None
        reader = client(server.plain)
        found = list(reader.get_paginator("list_objects_v2").paginate(Bucket="some"))
        listed = {entry["Key"]: entry for page in found for entry in page["Contents"]}
        got = {key: reader.get_object(Bucket="some", Key=key) for key in list(bodies)[-3:]}
        assert {key: answer["Body"].read() for key, answer in got.items()} == {key: bodies[key] for key in got}
        reader.close()
    assert len(found) == 2
    assert list(listed) == sorted(bodies)
    assert {key: entry["Size"] for key, entry in listed.items()} == {key: len(body) for key, body in bodies.items()}
    for key, answer in got.items():
        assert answer["ETag"].strip('"') == listed[key]["ETag"].strip('"')  # rclone lists them without quotes
