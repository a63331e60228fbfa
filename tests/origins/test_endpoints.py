"""Where buckets are reached by AWS's rules and at endpoints of one's own. Nothing is asked."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import AUTH_TYPE_MAPS
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import create_loader

from asyncfetch.errors import UsageError
from asyncfetch.http import Endpoint
from asyncfetch.origins.endpoints import NotNative, Reached, resolve
from asyncfetch.origins.signing import Target
from asyncfetch.settings import Access
from tests.test_uris import ARNS

CHINA = "s3.cn-north-1.amazonaws.com.cn"
POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"


@pytest.mark.parametrize(
    ("bucket", "region", "host", "path", "signed"),
    [
        ("bucket", None, "bucket.s3.amazonaws.com", "/", "us-east-1"),
        ("bucket", "us-east-1", "bucket.s3.amazonaws.com", "/", "us-east-1"),  # botocore: "legacy" is the default
        ("bucket", "eu-west-1", "bucket.s3.eu-west-1.amazonaws.com", "/", "eu-west-1"),
        ("bucket", "cn-north-1", f"bucket.{CHINA}", "/", "cn-north-1"),
        ("dotted.bucket", "eu-west-1", "s3.eu-west-1.amazonaws.com", "/dotted.bucket/", "eu-west-1"),
        (POINT, "eu-west-1", "mine-123456789012.s3-accesspoint.eu-west-1.amazonaws.com", "/", "eu-west-1"),
    ],
)
def test_aws_by_the_rules(bucket: str, region: str | None, host: str, path: str, signed: str) -> None:
    reached = resolve(bucket, Access(), region)
    assert reached == Reached(Target("https", host, path, signed), Endpoint(host, 443, True))


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "bucket.s3.dualstack.us-west-2.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "bucket.s3-fips.us-west-2.amazonaws.com"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "bucket.s3-fips.dualstack.us-west-2.amazonaws.com",
        ),
    ],
)
def test_dual_stack_and_fips_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], host: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reached = resolve("bucket", Access(), "us-west-2")
    assert isinstance(reached, Reached)
    assert reached.target.host == host


BUCKETS = ["bucket", "dotted.bucket", "Upper_Case", "name-abcdefghijklmnopqrstuvwxyz01234-s3alias", *ARNS]
CHOICES = ["dual_stack", "fips", "accelerate"]


@pytest.fixture(scope="module")
def rules() -> EndpointProvider:
    """botocore's endpoint rules for S3, by themselves."""
    loader = create_loader()
    return EndpointProvider(loader.load_service_model("s3", "endpoint-rule-set-1"), loader.load_data("partitions"))


@pytest.mark.parametrize(
    ("bucket", "region"),
    [*product(BUCKETS, ["eu-west-1"]), ("bucket", "us-east-1"), ("bucket", "cn-north-1"), ("bucket", "us-gov-west-1")],
)
def test_every_choice_leads_where_the_rules_of_botocore_lead(bucket: str, region: str, rules: EndpointProvider) -> None:
    for chosen in product([False, True], repeat=len(CHOICES)):
        options: dict[str, Any] = dict(zip(CHOICES, chosen, strict=True))
        signing_region = bucket.split(":")[3] or region if bucket.startswith("arn:") else region
        expected = None
        try:
            endpoint = rules.resolve_endpoint(
                Bucket=bucket,
                Region=signing_region,
                UseDualStack=options["dual_stack"],
                UseFIPS=options["fips"],
                Accelerate=options["accelerate"],
                UseGlobalEndpoint=region == "us-east-1",  # botocore: "legacy" is the default
                UseArnRegion=True,
            )
        except EndpointProviderError:
            pass
        else:
            # With awscrt, botocore knows more algorithms.
            schemes = endpoint.properties["authSchemes"]
            scheme: dict[str, Any] = next(
                (one for one in schemes if one["name"].removeprefix("sig") in AUTH_TYPE_MAPS), {}
            )
            if scheme.get("name") == "sigv4":
                expected = endpoint.url, scheme["signingRegion"], scheme["signingName"]
        reached = resolve(bucket, Access(**options), region)
        if isinstance(reached, NotNative):
            found = None
        else:
            target = reached.target
            found = f"{target.scheme}://{target.host}{target.path.rstrip('/')}", target.region, target.service
        assert found == expected, options


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_among_the_endpoints_of_aws_does_not_go_with_another_endpoint(choice: str) -> None:
    chosen: dict[str, Any] = {choice: True}
    with pytest.raises(UsageError, match="endpoint_url names another"):
        resolve("bucket", Access(endpoint_url="https://s3.example", **chosen), "us-east-1")


def test_what_is_said_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    reached = resolve("bucket", Access(dual_stack=False), "us-west-2")
    assert isinstance(reached, Reached)
    assert reached.target.host == "bucket.s3.us-west-2.amazonaws.com"


def test_a_profile_can_choose_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[profile mine]\nuse_dualstack_endpoint = true\ns3 =\n  use_accelerate_endpoint = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    reached = resolve("bucket", Access(profile="mine"), "eu-west-1")
    assert isinstance(reached, Reached)
    assert (reached.target.host, reached.target.region) == ("bucket.s3-accelerate.dualstack.amazonaws.com", "eu-west-1")


def test_an_access_point_of_an_endpoint_of_ones_own_is_in_its_host() -> None:
    reached = resolve(POINT, Access(endpoint_url="https://s3.example"), None)
    assert isinstance(reached, Reached)
    assert reached.target == Target("https", "mine-123456789012.s3.example", "/", "eu-west-1")


def test_path_style_can_be_asked_of_aws() -> None:
    reached = resolve("bucket", Access(addressing="path"), "eu-west-1")
    assert isinstance(reached, Reached)
    assert (reached.target.host, reached.target.path) == ("s3.eu-west-1.amazonaws.com", "/bucket/")


@pytest.mark.parametrize(
    ("access", "host", "path", "endpoint"),
    [
        (Access(endpoint_url="http://minio:9000"), "minio:9000", "/bucket/", Endpoint("minio", 9000, False)),
        (Access(endpoint_url="https://s3.example"), "s3.example", "/bucket/", Endpoint("s3.example", 443, True)),
        (
            Access(endpoint_url="https://s3.example", addressing="virtual"),
            "bucket.s3.example",
            "/",
            Endpoint("bucket.s3.example", 443, True),
        ),
        (Access(endpoint_url="http://[::1]:9000"), "[::1]:9000", "/bucket/", Endpoint("::1", 9000, False)),
    ],
)
def test_endpoints_of_ones_own(access: Access, host: str, path: str, endpoint: Endpoint) -> None:
    scheme = "https" if endpoint.tls else "http"
    assert resolve("bucket", access, None) == Reached(Target(scheme, host, path, "us-east-1"), endpoint)


@pytest.mark.parametrize("endpoint", ["http://minio.example:9000", "http://10.0.0.1:9000"])
def test_the_endpoint_of_a_profile_has_buckets_in_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[profile mine]\nservices = here\n[services here]\ns3 =\n  endpoint_url = {endpoint}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    reached = resolve("bucket", Access(profile="mine"), "eu-west-1")
    assert isinstance(reached, Reached)
    assert (f"http://{reached.target.host}", reached.target.path) == (endpoint, "/bucket/")


@pytest.mark.parametrize(
    ("bucket", "access", "said"),
    [
        ("bucket", Access(origin="boto"), "asked for"),
        ("logs--use1-az4--x-s3", Access(), "directory bucket"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", Access(), ""),
        ("bucket", Access(profile="nobody"), "ProfileNotFound"),
        ("bucket", Access(region="no region!"), "InvalidRegion"),
    ],
)
def test_what_is_left_to_the_reference_without_a_word(bucket: str, access: Access, said: str) -> None:
    reached = resolve(bucket, access, access.region or "us-east-1")
    assert isinstance(reached, NotNative)
    assert said in reached.reason
    assert not reached.worth_a_word


@pytest.mark.parametrize("access", [Access(), Access(endpoint_url="https://s3.example")])
def test_behind_a_proxy_the_reference_serves_and_that_is_worth_a_word(
    monkeypatch: pytest.MonkeyPatch, access: Access
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@proxy")
    reached = resolve("bucket", access, "us-east-1")
    assert reached == NotNative("HTTPS_PROXY is set in the environment", worth_a_word=True)
    monkeypatch.setenv("NO_PROXY", ".amazonaws.com,s3.example:443")
    assert isinstance(resolve("bucket", access, "us-east-1"), Reached)


@pytest.mark.parametrize(
    ("bucket", "access", "region"),
    [
        ("bucket", Access(endpoint_url="http://h"), "no region!"),
        ("bucket", Access(endpoint_url="http://127.0.0.1:99999999"), None),
        ("bucket", Access(endpoint_url="http://user:hush@h"), None),
        ("Bucket", Access(endpoint_url="http://h", addressing="virtual"), None),
        ("no!bucket:", Access(), None),
    ],
)
def test_what_no_request_can_be_written_for_is_refused(bucket: str, access: Access, region: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(bucket, access, region)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("ignored", "found"), [("true", None), ("TRUE", None), ("false", "http://minio"), ("", "http://minio")]
)
def test_endpoints_of_the_aws_environment_can_be_ignored(
    monkeypatch: pytest.MonkeyPatch, ignored: str, found: str | None
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://minio")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", ignored)
    assert Access().endpoint == found
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", "http://ours")
    assert Access().endpoint == "http://ours"
