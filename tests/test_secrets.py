"""What proves an identity is seen nowhere: a whole run at DEBUG, everything it said, and everything it left."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Literal

import pytest

import asyncfetch
from asyncfetch import Access, NetworkPolicy
from asyncfetch.errors import AsyncfetchError, ObjectNotFound
from asyncfetch.origins.credentials import Credentials as Identity
from asyncfetch.presigned import redacted
from asyncfetch.testing import (
    Credentials,
    Ending,
    Fault,
    Faults,
    FaultServer,
    Generated,
    RawRequest,
    ScriptedServer,
    answer,
)
from asyncfetch.uris import parse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from asyncfetch.testing.scripted import Answer

KEY_ID, SECRET, TOKEN = "AKIDDISTINCTIVE1", "distinctiveSecretKey1234", "distinctiveSessionToken5678"
OWNER = Credentials(KEY_ID, SECRET)
OBJECTS = Generated(30, 2000)


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


def shown(error: BaseException) -> str:
    """Everything that can be seen of an exception and what led to it, its traceback too."""
    parts = traceback.format_exception(error)
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        parts += [str(each), repr(each), repr(vars(each)), repr(each.args)]
        todo += [each.__cause__, each.__context__]
    return "".join(parts) + repr(pickle.dumps(error, 0))


def frames(error: BaseException) -> list[str]:
    """Every variable of the package in the tracebacks of an exception and what led to it, as collectors see them."""
    found: list[str] = []
    todo: list[traceback.TracebackException | None] = [
        traceback.TracebackException.from_exception(error, capture_locals=True)
    ]
    while todo:
        each = todo.pop()
        if each is None:
            continue
        for frame in each.stack:
            if frame.filename.startswith(os.path.join(os.path.dirname(asyncfetch.__file__), "")):
                variables = (frame.locals or {}).items()
                found += [f"{frame.filename}:{frame.lineno} {name} = {value}" for name, value in variables]
        todo += [each.__cause__, each.__context__]
    return found


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() + bytes(path) for path in sorted(directory.rglob("*")) if path.is_file())


def assert_absent(secrets: Iterable[str], *texts: str | bytes) -> None:
    for secret in secrets:
        for text in texts:
            found = secret.encode() in text if isinstance(text, bytes) else secret in text
            assert not found, f"{secret} was shown in {text!r}"


@pytest.mark.parametrize("origin", ["native", "boto"])
async def test_a_run_through_every_fault_shows_no_secret(
    cache_dir: Path, caplog: pytest.LogCaptureFixture, origin: Literal["native", "boto"]
) -> None:
    # botocore logs signatures, and not the secret, at DEBUG of its own; who turns that on has asked for them.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    caplog.set_level(logging.DEBUG)
    refused = {(f"{n:08d}", 1): fault for n, fault in enumerate([Fault.REFUSE_SIGNATURE, Fault.EXPIRE_TOKEN] * 2)}
    faults = Faults(at=refused, error=0.1, unavailable=0.1, reset=0.1, truncate=0.1)
    said: list[str] = []
    async with FaultServer(OBJECTS, faults=faults, credentials=OWNER) as server:
        fetcher = asyncfetch.Fetcher(
            cache_dir=cache_dir,
            access=Access(endpoint_url=server.endpoint_url, region="us-east-1", origin=origin),
            network=NetworkPolicy(attempts=10),
        )
        async with fetcher:
            with pytest.raises(ObjectNotFound) as missed:
                await fetcher.fetch(server.uri("no-such-key"))
            said.append(shown(missed.value))
            # Keys of the environment that were once called expired stay so: what comes later fails by that name.
            async for item in fetcher.entries([server.uri(key) for key in OBJECTS], on_error="yield"):
                said.append(repr(item))
                if isinstance(item, asyncfetch.Failure):
                    said.append(shown(item.exception))
            failures = fetcher.stats().failures
            said += [repr(fetcher), repr(fetcher.stats()), repr(fetcher.settings), repr(pickle.dumps(fetcher.settings))]
    assert {"ObjectNotFound", "InvalidCredentials"} <= set(failures)
    assert_absent([SECRET, TOKEN, "Signature=", "x-amz-security-token"], caplog.text, *said, contents(cache_dir))
    assert any(cache_dir.rglob("*"))


async def test_a_server_that_repeats_what_it_was_sent_teaches_nobody(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signatures: list[str] = []

    def repeat(request: RawRequest) -> Answer:
        authorization = request.header("authorization") or ""
        signatures.append(authorization.rpartition("Signature=")[2])
        everything = request.head.decode("latin-1").replace("\r\n", " ").replace("<", "")
        codes = ["AccessDenied", "InternalError", "SignatureDoesNotMatch", "Unheard"]
        code = codes[len(signatures) % len(codes)]
        body = f"<Error><Code>{code}</Code><Message>{everything}</Message><Token-0>{TOKEN}</Token-0></Error>"
        return answer(
            body.encode(), status="400 Bad", headers=["Content-Type: application/xml", f"x-amz-request-id: {code}"]
        )

    said: list[str] = []
    async with (
        ScriptedServer(repeat) as server,
        asyncfetch.Fetcher(
            cache_dir=cache_dir, endpoint_url=server.url, region="us-east-1", network=NetworkPolicy(attempts=1)
        ) as fetcher,
    ):
        for number in range(10):
            for call in (fetcher.fetch(f"s3://bucket/{number}"), fetcher.stat(f"s3://bucket/{number}")):
                with pytest.raises(AsyncfetchError) as caught:
                    await call
                said.append(shown(caught.value))
    assert len(set(signatures)) > 10
    assert_absent([SECRET, TOKEN, *signatures], caplog.text, *said, contents(cache_dir))


def refuse(code: str, status: str) -> bytes:
    return answer(f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode(), status=status)


@pytest.mark.parametrize("origin", ["native", "boto"])
@pytest.mark.parametrize(
    "reply",
    [
        refuse("AccessDenied", "403 Forbidden"),
        refuse("ExpiredToken", "400 Bad Request"),
        refuse("RequestTimeTooSkewed", "403 Forbidden"),
        refuse("InternalError", "500 Internal Server Error"),
        answer(b"body")[:-2],
        b"nothing of HTTP\r\n\r\n",
    ],
)
async def test_no_variable_of_a_traceback_shows_a_secret(
    cache_dir: Path, origin: Literal["native", "boto"], reply: bytes
) -> None:
    key = b"distinctiveCustomerKey0123456789"
    seen: list[str] = []
    async with ScriptedServer(lambda _: [reply, Ending.CLOSE]) as server:
        access = Access(endpoint_url=server.url, region="us-east-1", origin=origin, customer_key=key)
        async with asyncfetch.Fetcher(cache_dir=cache_dir, access=access, network=NetworkPolicy(attempts=1)) as fetcher:
            for call in (fetcher.fetch, fetcher.stat, fetcher.read_bytes, lambda uri: anext(aiter(fetcher.list(uri)))):
                try:
                    await call("s3://bucket/key")
                except AsyncfetchError as error:
                    seen += frames(error)
    assert any("origins" in line for line in seen)
    assert_absent([SECRET, TOKEN, "Signature=", key.decode(), b64encode(key).decode()], *seen)


def test_credentials_show_themselves_to_nobody() -> None:
    ours = Identity(KEY_ID, SECRET, TOKEN)
    assert_absent([SECRET, TOKEN], repr(ours), str(ours), f"{[ours]}", repr(OWNER))
    with pytest.raises(TypeError):
        pickle.dumps(ours)


# Presigned URLs.

SIGNED = (
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDPRESIGNED%2F20260101%2Feu-west-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Security-Token=presignedToken99&X-Amz-Signature=0123456789abcdef0123"
)
PROOFS = ["AKIDPRESIGNED", "presignedToken99", "0123456789abcdef0123"]


async def test_a_presigned_url_is_sent_whole_and_shown_without_what_signs_it(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    replies = {"/a": answer(b"body", headers=['ETag: "e"']), "/cut": answer(b"body")[:-2]}

    def reply(request: RawRequest) -> Answer:
        return replies.get(request.target.partition("?")[0], answer(b"gone", status="404 Not Found"))

    said: list[str] = []
    async with (
        ScriptedServer(reply) as server,
        asyncfetch.Fetcher(cache_dir=cache_dir, network=NetworkPolicy(attempts=1, read_timeout=0.2)) as fetcher,
    ):
        assert (await fetcher.fetch(f"{server.url}/a{SIGNED}")).path.read_bytes() == b"body"
        assert server.requests[0].target == f"/a{SIGNED}"
        for name in ("none", "cut"):
            with pytest.raises(AsyncfetchError) as caught:
                await fetcher.fetch(f"{server.url}/{name}{SIGNED}")
            assert "X-Amz-Date=20260101T000000Z" in str(caught.value)
            said.append(shown(caught.value))
        with pytest.raises(AsyncfetchError) as caught:
            await fetcher.fetch(f"{server.url}/a b{SIGNED}")
        said.append(shown(caught.value))
    assert_absent(PROOFS, caplog.text, *said, contents(cache_dir))


async def test_a_presigned_url_is_served_from_the_cache_all_the_same(cache_dir: Path) -> None:
    async with (
        ScriptedServer([answer(b"body", headers=['ETag: "e"'])]) as server,
        asyncfetch.Fetcher(cache_dir=cache_dir, revalidate="never") as fetcher,
    ):
        first = await fetcher.fetch(f"{server.url}/a{SIGNED}")
        again = await fetcher.fetch(f"{server.url}/a{SIGNED}")
        assert (first.from_cache, again.from_cache) == (False, True)


async def test_nothing_that_names_a_presigned_url_shows_what_signs_it(cache_dir: Path) -> None:
    def reply(request: RawRequest) -> Answer:
        there = request.target.startswith("/there")
        return answer(b"body", headers=['ETag: "e"']) if there else answer(b"gone", status="404 Not Found")

    async with (
        ScriptedServer(reply) as server,
        asyncfetch.Fetcher(cache_dir=cache_dir) as fetcher,
    ):
        there, gone = (f"{server.url}/{name}{SIGNED}" for name in ("there", "gone"))
        entry, stat = await fetcher.fetch(there), await fetcher.stat(there)
        [failure] = [item async for item in fetcher.entries([(gone, {"row": gone})], on_error="yield")]
        [body] = [item async for item in fetcher.bytes([there])]
        report = await fetcher.prefetch([there, gone])
        assert isinstance(failure, asyncfetch.Failure)
        location = parse(there)
        assert (str(location), failure.uri, entry.uri) == (there, gone, there)  # to go on with
        for thing in (entry, stat, failure, body, report, location, [location], fetcher.stats()):
            assert_absent(PROOFS, repr(thing))
        with pytest.raises(ObjectNotFound) as caught:
            await fetcher.fetch(gone)
        named = [line for line in frames(caught.value) if "Location(" in line or "Page(" in line]
        assert named
        assert_absent(PROOFS, *named)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a?sig=abc&se=2026", "https://h/a?sig=...&se=2026"),
        ("no https://h/a?Expires=1&Signature=a%2Fb. No", "no https://h/a?Expires=1&Signature=... No"),
        ("https://h/a?Policy=a&Key-Pair-Id=K", "https://h/a?Policy=...&Key-Pair-Id=..."),
        ("https://h/a?x-goog-signature=abc#x", "https://h/a?x-goog-signature=...#x"),
        ("https://h/a?design=abc&signature_of=x", "https://h/a?design=abc&signature_of=x"),
        ("s3://b/a=b", "s3://b/a=b"),
    ],
)
def test_only_what_signs_is_taken_out(text: str, expected: str) -> None:
    assert redacted(text) == expected
