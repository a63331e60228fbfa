import pickle

import pytest

from asyncfetch.errors import UsageError
from asyncfetch.origins.signing import Target


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://bucket.s3.eu-west-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com", "/"),
        ("https://s3.eu-west-1.amazonaws.com/my.bucket", "s3.eu-west-1.amazonaws.com", "/my.bucket/"),
        ("https://Example.COM:443/", "example.com", "/"),
        ("http://example.com:443/", "example.com:443", "/"),
        ("http://127.0.0.1:80/a/b/", "127.0.0.1", "/a/b/"),
        ("http://127.0.0.1:9000/b", "127.0.0.1:9000", "/b/"),
        ("https://[::1]:9000/b", "[::1]:9000", "/b/"),
        ("https://[::1]/b", "[::1]", "/b/"),
        ("http://host:/b", "host", "/b/"),
        ("http://host/a b%20c%2fé", "host", "/a%20b%20c/%C3%A9/"),
    ],
)
def test_targets_read_urls(url: str, host: str, path: str) -> None:
    target = Target.from_url(url, region="auto")
    assert (target.host, target.path, target.region) == (host, path, "auto")
    assert target.scheme == url.partition(":")[0]
    assert pickle.loads(pickle.dumps(target)) == target


@pytest.mark.parametrize(
    ("bucket", "endpoint", "virtual", "host", "path"),
    [
        ("bucket", "https://s3.example.com", True, "bucket.s3.example.com", "/"),
        ("bucket", "https://s3.example.com/", False, "s3.example.com", "/bucket/"),
        ("bucket", "http://example.com:9000/base/", False, "example.com:9000", "/base/bucket/"),
        ("bucket", "http://example.com:9000/base", True, "bucket.example.com:9000", "/base/"),
        ("Old_Bucket%", "https://s3.example.com", False, "s3.example.com", "/Old_Bucket%25/"),
    ],
)
def test_targets_address_buckets_by_path_or_host(
    bucket: str, endpoint: str, virtual: bool, host: str, path: str
) -> None:
    target = Target.for_bucket(bucket, endpoint_url=endpoint, region="us-east-1", virtual=virtual)
    assert (target.host, target.path) == (host, path)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("ftp://host", "us-east-1"),
        ("host/bucket", "us-east-1"),
        ("https://", "us-east-1"),
        ("https://user:hush@host", "us-east-1"),
        ("https://host/?query", "us-east-1"),
        ("https://host/#part", "us-east-1"),
        ("https://host:70000", "us-east-1"),
        ("https://user:hush@host:port", "us-east-1"),
        ("https://hö.st", "us-east-1"),
        ("https://a b", "us-east-1"),
        ("https://[::1", "us-east-1"),
        ("https://host", ""),
        ("https://host", "us-east-1\r\nx: y"),
    ],
)
def test_targets_refuse_what_is_no_endpoint(url: str, region: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target.from_url(url, region=region)
    assert "hush" not in str(caught.value)


def test_targets_refuse_parts_that_could_not_stand_in_a_request() -> None:
    for wrong in (
        {"host": "a\r\nb"},
        {"path": "/a"},
        {"path": "/a b/"},
        {"path": "a/"},
        {"service": "s3\n"},
        {"scheme": "s3"},
        {"host": "host:port"},
    ):
        with pytest.raises(UsageError):
            Target(**({"scheme": "https", "host": "host", "path": "/", "region": "auto"} | wrong))


def test_a_bucket_that_no_host_can_be_named_for_is_not_lower_cased_into_another() -> None:
    for bucket in ("Bucket", "a_b", "a/b", "-a", "a@b"):
        with pytest.raises(UsageError, match="path"):
            Target.for_bucket(bucket, endpoint_url="https://s3.example.com", region="us-east-1", virtual=True)
