import calendar
import hashlib
import http.client
import io
import itertools
import re
import socket
import subprocess
import sysconfig
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import botocore.session
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncfetch.errors import UsageError
from asyncfetch.origins.credentials import Credentials
from asyncfetch.origins.signing import Signer, Target
from tests.soak import examples

IDENTITY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TEMPORARY = Credentials("ASIAIOSFODNN7EXAMPLE", "other/secret+key", "IQoJb3JpZ2luX2VjE//////////wEaCXVz==")
NOW = float(calendar.timegm((2013, 5, 24, 0, 0, 0)))
EMPTY = hashlib.sha256(b"").hexdigest()
TARGET = Target("https", "examplebucket.s3.amazonaws.com", "/", "us-east-1")

METHODS: tuple[Literal["GET", "HEAD"], ...] = ("GET", "HEAD")
# The headers below that are not to be signed.
UNSIGNED = {"user-agent", "accept-encoding", "connection"}

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
odd_keys = st.one_of(
    keys,
    st.text("/.%+ ~!'()*&=?#:;,@$[]\\\"<>^`{}|\x7f\n\r\t\0é한😀aZ0_-", min_size=1, max_size=60),
    st.lists(st.sampled_from(["..", ".", "", "a b", "%2F", "é"]), min_size=2, max_size=8).map("/".join),
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


class Head:
    """A request head, taken apart the way a server does."""

    def __init__(self, head: bytes) -> None:
        lines, blank, rest = head.partition(b"\r\n\r\n")
        assert blank, "the head does not end with a blank line"
        assert not rest, "something follows the blank line"
        request, *fields = lines.decode("ascii").split("\r\n")
        self.method, self.target, version = request.split(" ")
        assert version == "HTTP/1.1"
        self.headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(": ")
            assert name not in self.headers
            self.headers[name] = value
        self.path, _, self.query = self.target.partition("?")
        authorization = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})",
            self.headers.get("authorization", ""),
        )
        self.credential, self.signed, self.signature = authorization.groups() if authorization else ("", "", "")


def signature_by_botocore(head: Head, credentials: Credentials, region: str) -> str:
    """What botocore's signer makes of a request as it stands on the wire."""
    names = head.signed.split(";")
    request = AWSRequest(
        head.method,
        f"https://{head.headers['host']}{head.target}",
        {name: value for name, value in head.headers.items() if name in names},
    )
    request.context["timestamp"] = head.headers["x-amz-date"]
    signer = S3SigV4Auth(BotocoreCredentials(credentials.access_key, credentials.secret_key), "s3", region)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(to_sign, request))


@pytest.mark.parametrize(
    ("key", "query", "headers", "signature"),
    [
        (
            "test.txt",
            [],
            [("Range", "bytes=0-9")],
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("", [("lifecycle", "")], [], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "",
            [("prefix", "J"), ("max-keys", "2")],
            [],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get-object", "get-bucket-lifecycle", "list-objects"],
)
def test_published_examples_of_aws_come_out_as_published(
    key: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], signature: str
) -> None:
    signer = Signer(TARGET, payload_hash=EMPTY)
    head = Head(signer.head("GET", key, credentials=IDENTITY, now=NOW, query=query, headers=headers))
    assert head.credential == "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
    assert head.signature == signature
    assert signature_by_botocore(head, IDENTITY, "us-east-1") == signature


# Eight requests of each example: thousands in all.
@settings(max_examples=examples(150), deadline=None)
@given(
    key=odd_keys,
    query=st.lists(st.tuples(keys, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), max_size=4),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "Range",
                "If-Match",
                "If-None-Match",
                "Accept",
                "accept-encoding",
                "User-Agent",
                "connection",
                "x-amz-checksum-mode",
                "X-Amz-Expected-Bucket-Owner",
                "x-amz-server-side-encryption-customer-key",
                "zone",
            ]
        ),
        header_values,
        max_size=5,
    ),
    token=st.text("ABCxyz019/+=", max_size=300),
    region=st.sampled_from(["us-east-1", "eu-central-2", "auto"]),
    pays=st.booleans(),
    payload=st.sampled_from(["UNSIGNED-PAYLOAD", EMPTY]),
    now=st.floats(0, 4e9),
)
@example("a", [("a-b", "1"), ("a", "2")], {}, "", "us-east-1", False, EMPTY, NOW)
@example("a", [("a", "2"), ("a", "1")], {}, "", "us-east-1", False, EMPTY, NOW)
@example("/a//../b/.", [], {"If-Match": '  "a   b"  '}, "", "us-east-1", True, EMPTY, NOW)
def test_every_request_is_signed_as_botocore_signs_what_is_on_the_wire(
    key: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    token: str,
    region: str,
    pays: bool,
    payload: str,
    now: float,
) -> None:
    for virtual in (True, False):
        target = Target.for_bucket("bucket", endpoint_url="https://s3.example.com", region=region, virtual=virtual)
        signer = Signer(target, requester_pays=pays, payload_hash=payload)
        for identity, method in itertools.product((IDENTITY, Credentials("ASIA", "secret+/", token)), METHODS):
            head = Head(signer.head(method, key, credentials=identity, now=now, query=query, headers=headers.items()))
            assert head.signature == signature_by_botocore(head, identity, region)
            # What was signed is what was asked for.
            assert head.method == method
            assert urllib.parse.unquote(head.path) == ("/" if virtual else "/bucket/") + key
            assert sorted(urllib.parse.parse_qsl(head.query, keep_blank_values=True)) == sorted(query)
            assert {name: head.headers[name.lower()] for name in headers} == headers
            assert head.headers.get("x-amz-security-token", "") == (identity.token or "")
            assert head.headers.get("x-amz-request-payer") == ("requester" if pays else None)
            assert calendar.timegm(time.strptime(head.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")) == int(now)
            signed = set(head.signed.split(";"))
            assert {name for name in head.headers if name.startswith("x-amz-")} <= signed
            assert {name.lower() for name in headers} - signed <= UNSIGNED
            assert signed.isdisjoint(UNSIGNED)


class Body(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


class Botocore:
    """botocore's client, whose requests are taken away where they would have gone to the network."""

    def __init__(self, *, virtual: bool) -> None:
        session = botocore.session.Session()
        session.set_credentials(TEMPORARY.access_key, TEMPORARY.secret_key, TEMPORARY.token)
        style = "virtual" if virtual else "path"
        self.client = session.create_client(
            "s3",
            endpoint_url="https://s3.example.com",
            region_name="eu-west-3",
            config=Config(s3={"addressing_style": style}),
        )
        self.client.meta.events.register("before-send.s3", self._take)
        self.request: Any = None

    def _take(self, request: Any, **_: object) -> AWSResponse:
        self.request = request
        return AWSResponse(request.url, 200, {}, Body(b"<ListBucketResult/>" if "list-type" in request.url else b""))

    def head(self) -> Head:
        """The last request, as its head would have been."""
        url = urllib.parse.urlsplit(self.request.url)
        headers = {name.lower(): _text(value) for name, value in self.request.headers.items()}
        lines = [f"{name}: {value}" for name, value in ({"host": url.netloc} | headers).items()]
        target = url.path + (f"?{url.query}" if url.query else "")
        return Head("\r\n".join([f"{self.request.method} {target} HTTP/1.1", *lines, "", ""]).encode())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[bool, Botocore]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        both = {virtual: Botocore(virtual=virtual) for virtual in (True, False)}
        yield both
        for one in both.values():
            one.client.close()


@settings(max_examples=examples(100), deadline=None)
@given(
    operation=st.sampled_from(["get_object", "head_object", "list_objects_v2"]),
    key=odd_keys,
    version=st.none() | st.text("abcXYZ019._-+/= ", min_size=1, max_size=20),
    etag=st.none() | st.text("0123456789abcdef-", min_size=1, max_size=40),
    pays=st.booleans(),
    virtual=st.booleans(),
)
def test_requests_are_those_that_botocore_would_have_sent(
    clients: dict[bool, Botocore],
    operation: str,
    key: str,
    version: str | None,
    etag: str | None,
    pays: bool,
    virtual: bool,
) -> None:
    theirs = clients[virtual]
    arguments: dict[str, str] = {"Bucket": "bucket"}
    query: list[tuple[str, str]] = []
    if operation == "list_objects_v2":
        arguments |= {"Prefix": key}
        query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", key)]
        key = ""
    else:
        arguments |= {"Key": key, "Range": "bytes=7-99"}
        if version is not None:
            arguments["VersionId"] = version
            query = [("versionId", version)]
        if etag is not None:
            arguments["IfMatch"] = f'"{etag}"'
    if pays:
        arguments["RequestPayer"] = "requester"
    getattr(theirs.client, operation)(**arguments)
    expected = theirs.head()
    given_by_us = {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-request-payer"}
    signer = Signer(
        Target.for_bucket("bucket", endpoint_url="https://s3.example.com", region="eu-west-3", virtual=virtual),
        requester_pays=pays,
        payload_hash=expected.headers["x-amz-content-sha256"],
    )
    head = Head(
        signer.head(
            "HEAD" if operation == "head_object" else "GET",
            key,
            credentials=TEMPORARY,
            now=calendar.timegm(time.strptime(expected.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")),
            query=query,
            headers=[(name, expected.headers[name]) for name in expected.signed.split(";") if name not in given_by_us],
        )
    )
    assert (head.method, head.path) == (expected.method, expected.path)
    assert sorted(head.query.split("&")) == sorted(expected.query.split("&"))
    assert head.headers["authorization"] == expected.headers["authorization"]
    assert {name: expected.headers[name] for name in head.headers} == head.headers


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.sampled_from([IDENTITY, TEMPORARY, None]), st.floats(NOW, NOW + 200_000)), max_size=20))
@example([(IDENTITY, NOW), (TEMPORARY, NOW), (IDENTITY, NOW), (IDENTITY, NOW + 86_400), (IDENTITY, NOW)])
@example([(IDENTITY, NOW), (Credentials(IDENTITY.access_key, "rotated"), NOW)])
def test_what_a_signer_keeps_never_outlives_its_second_its_day_or_its_credentials(
    uses: list[tuple[Credentials | None, float]],
) -> None:
    kept = Signer(TARGET)
    for identity, now in uses:
        fresh = Signer(TARGET).head("GET", "key", credentials=identity, now=now)
        assert kept.head("GET", "key", credentials=identity, now=now) == fresh


def test_a_plain_request_in_full() -> None:
    signer = Signer(TARGET, requester_pays=True, user_agent="agent/1.0 (test)")
    assert signer.head("GET", "a/b.jpg", credentials=TEMPORARY, now=NOW, headers=[("Range", "bytes=0-9")]) == (
        b"GET /a/b.jpg HTTP/1.1\r\n"
        b"host: examplebucket.s3.amazonaws.com\r\n"
        b"x-amz-request-payer: requester\r\n"
        b"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"
        b"x-amz-date: 20130524T000000Z\r\n"
        b"x-amz-security-token: IQoJb3JpZ2luX2VjE//////////wEaCXVz==\r\n"
        b"range: bytes=0-9\r\n"
        b"user-agent: agent/1.0 (test)\r\n"
        b"authorization: AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        b"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-request-payer;x-amz-security-token, "
        b"Signature=635c7a9cb43d5a3b51d3030184eeb9726f0312481cd378be1d7212a593aca056\r\n\r\n"
    )


def test_an_anonymous_request_carries_nothing_of_an_identity() -> None:
    signer = Signer(TARGET, requester_pays=True, user_agent="agent/1.0")
    signer.head("GET", "key", credentials=TEMPORARY, now=NOW)
    assert signer.head(
        "HEAD", "k", credentials=None, now=NOW, query=[("versionId", "v")], headers=[("if-match", '"e"')]
    ) == (
        b"HEAD /k?versionId=v HTTP/1.1\r\n"
        b"host: examplebucket.s3.amazonaws.com\r\n"
        b"x-amz-request-payer: requester\r\n"
        b"user-agent: agent/1.0\r\n"
        b'if-match: "e"\r\n\r\n'
    )


anything = st.text(
    st.one_of(st.sampled_from("\r\n\0 :é\x85\u2028\ud800"), st.characters(exclude_categories=[])), max_size=12
)


@settings(max_examples=examples(250), deadline=None)
@given(
    key=anything,
    query=st.lists(st.tuples(anything, anything), max_size=2),
    headers=st.lists(st.tuples(st.one_of(st.sampled_from(["range", "host", "x"]), anything), anything), max_size=2),
    identity=st.sampled_from([IDENTITY, None]),
)
@example("k", [], [("range", "bytes=0-1\r\nx-evil: 1")], IDENTITY)
@example("k", [], [("range\r\nx-evil", "1")], None)
@example("k", [], [("range", "a\0b")], None)
@example("k\r\nx-evil: 1", [("a\r\n", "\0")], [], IDENTITY)
def test_nothing_that_is_passed_in_can_add_a_line_to_the_head(
    key: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], identity: Credentials | None
) -> None:
    signer = Signer(TARGET)
    try:
        head = signer.head("GET", key, credentials=identity, now=NOW, query=query, headers=headers)
    except UsageError:
        return
    assert head.endswith(b"\r\n\r\n")
    assert not re.search(rb"[^ -~]", head.replace(b"\r\n", b""))
    assert head.count(b"\r\n") == 2 + (1 if identity is None else 4) + len(headers)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("range", "bytes=0-1"), ("Range", "bytes=0-1")], "twice"),
        ([("Host", "elsewhere")], "itself"),
        ([("x-amz-date", "20130524T000000Z")], "itself"),
        ([("Content-Length", "10")], "itself"),
        ([("transfer-encoding", "chunked")], "itself"),
        ([("authorization", "none")], "itself"),
        ([("", "value")], "name of a header"),
        ([("two words", "value")], "name of a header"),
        ([("range", "bytes=0-1\t")], "printable"),
        ([("if-match", '"é"')], "printable"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: list[tuple[str, str]], said: str) -> None:
    signer = Signer(TARGET)
    for identity in (IDENTITY, None):
        with pytest.raises(UsageError, match=said):
            signer.head("GET", "key", credentials=identity, now=NOW, headers=headers)


def test_a_refused_header_does_not_show_its_value() -> None:
    with pytest.raises(UsageError) as caught:
        Signer(TARGET).head("GET", "k", credentials=None, now=NOW, headers=[("x-amz-key", "hush\n")])
    assert "hush" not in str(caught.value)


def test_other_bad_parts_of_a_request_are_refused() -> None:
    signer = Signer(TARGET)
    with pytest.raises(UsageError, match="only GET, HEAD"):
        signer.head("PUT", "key", credentials=None, now=NOW)
    with pytest.raises(UsageError, match="not valid Unicode"):
        signer.head("GET", "\ud800", credentials=None, now=NOW)
    with pytest.raises(UsageError, match="not valid Unicode"):
        signer.head("GET", "key", credentials=None, now=NOW, query=[("prefix", "\ud800")])
    with pytest.raises(UsageError, match="printable"):
        Signer(TARGET, user_agent="a\r\nb")


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of rclone's S3 server, which checks signatures, over a directory of two objects."""
    root = tmp_path_factory.mktemp("rclone")
    (root / "bucket").mkdir()
    for name in ("plain.txt", "a b+é%.txt"):
        (root / "bucket" / name).write_bytes(b"0123456789")
    keys = f"{IDENTITY.access_key},{IDENTITY.secret_key}"
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    process = subprocess.Popen(
        [program, "serve", "s3", root, "--addr", "127.0.0.1:0", "--auth-key", keys, "--config", root / "none"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            raise AssertionError("rclone ended before it served")
    finally:
        process.terminate()
        process.communicate()


def answer(endpoint: str, head: bytes) -> tuple[int, bytes]:
    host, port = endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head)
        response = http.client.HTTPResponse(connection)
        response.begin()
        with response:
            return response.status, response.read()


@pytest.mark.parametrize("key", ["plain.txt", "a b+é%.txt"])
def test_a_server_that_checks_signatures_accepts_them(rclone: str, key: str) -> None:
    signer = Signer(Target.for_bucket("bucket", endpoint_url=rclone, region="us-east-1"), user_agent="asyncfetch")
    head = signer.head("GET", key, credentials=IDENTITY, now=time.time(), headers=[("range", "bytes=2-4")])
    status, body = answer(rclone, head)
    assert (status // 100, body) == (2, b"234")  # rclone calls a part 200
    status, listing = answer(
        rclone,
        signer.head("GET", "", credentials=IDENTITY, now=time.time(), query=[("prefix", ""), ("list-type", "2")]),
    )
    assert status == 200
    assert b"plain.txt" in listing
    wrong = Credentials(IDENTITY.access_key, "another secret")
    assert answer(rclone, signer.head("GET", key, credentials=wrong, now=time.time()))[0] == 403
    assert answer(rclone, signer.head("GET", key, credentials=None, now=time.time()))[0] == 400
