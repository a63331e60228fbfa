from __future__ import annotations

import pytest

from asyncfetch.http import ProtocolError, ResponseHead
from asyncfetch.http.head import CHUNKED, MAX_LENGTH, UNTIL_CLOSE


def head(*fields: str, status: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return ResponseHead("\r\n".join([status, *fields, "", ""]))


def test_a_head_tells_status_reason_and_fields() -> None:
    found = head('ETag:  "a:b"\t ', "X-Amz-Meta-Name: \xe9", "Empty:", "X: 1", "x: 2")
    assert (found.status, found.reason, found.content_length, found.persistent) == (200, "OK", None, True)
    assert found.get("etag") == '"a:b"'
    assert found.get("x-amz-meta-name") == "\xe9"
    assert found.get("empty") == ""
    assert found.get("none") is None
    assert found.get("x") == "1"
    assert list(found.items())[-2:] == [("x", "1"), ("x", "2")]
    assert repr(found) == "<ResponseHead 200 'OK'>"


@pytest.mark.parametrize("reason", ["", " ", " Not  Found"])
def test_the_reason_may_be_anything_or_nothing(reason: str) -> None:
    assert head(status=f"HTTP/1.1 404{reason}").reason == reason[1:]


def test_a_value_that_looks_like_a_field_is_not_one() -> None:
    found = head("X-Note: a content-length: 5", "X-Content-Length: 7")
    assert found.content_length is None
    assert found.get("content-length") is None


def test_lowering_latin_1_moves_no_character() -> None:
    text = "".join(map(chr, range(256)))
    assert len(text.lower()) == len(text)
    assert text.lower().encode("latin-1")


@pytest.mark.parametrize(
    ("fields", "persistent"),
    [
        ((), True),
        (("Connection: keep-alive",), True),
        (("Connection: close",), False),
        (("Connection: Keep-Alive, Close",), False),
        (("Connection: keep-alive", "Connection: close"), False),
        (("Connection: x-closed",), True),
    ],
)
def test_http_1_1_persists_unless_it_says_close(fields: tuple[str, ...], persistent: bool) -> None:
    assert head(*fields).persistent is persistent


def test_http_1_0_persists_only_if_it_says_so() -> None:
    assert not head(status="HTTP/1.0 200 OK").persistent
    assert head("Connection: Keep-Alive", status="HTTP/1.0 200 OK").persistent


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ((), UNTIL_CLOSE),
        (("Content-Length: 0",), 0),
        (("Content-Length: 86016",), 86016),
        (("Content-Length:\t007 ",), 7),
        (("Content-Length: 5", "content-length: 5"), 5),
        (("Content-Length: 5, 5",), 5),
        ((f"Content-Length: {MAX_LENGTH}",), MAX_LENGTH),
        (("Transfer-Encoding: Chunked",), CHUNKED),
    ],
)
def test_framing(fields: tuple[str, ...], length: int) -> None:
    assert head(*fields).body_length(to_head=False) == length


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_whatever_they_announce(status: int) -> None:
    found = head("Content-Length: 5", status=f"HTTP/1.1 {status} X")
    assert found.body_length(to_head=False) == 0
    assert head("Content-Length: 5").body_length(to_head=True) == 0
    assert head("Content-Length: 5").content_length == 5
    assert head("Transfer-Encoding: chunked").body_length(to_head=True) == 0


@pytest.mark.parametrize(
    "values",
    [
        "-1",
        "+1",
        "1_000",
        "0x10",
        "1.0",
        "",
        "five",
        "5 5",
        "5,",
        "5, 6",
        "\xb2",
        "9" * 19,
        "9" * 10_000,
        str(MAX_LENGTH + 1),
    ],
)
def test_a_content_length_that_is_none_is_refused(values: str) -> None:
    with pytest.raises(ProtocolError, match="Content-Length"):
        head(f"Content-Length: {values}")


def test_content_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ProtocolError, match="several values of Content-Length"):
        head("Content-Length: 5", "X: y", "Content-Length: 6")


@pytest.mark.parametrize(
    ("fields", "status", "complaint"),
    [
        (("Transfer-Encoding: chunked", "Content-Length: 5"), "HTTP/1.1 200 OK", "both"),
        (("Transfer-Encoding: gzip, chunked",), "HTTP/1.1 200 OK", "gzip"),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "HTTP/1.1 200 OK", "chunked,chunked"),
        (("Transfer-Encoding: xchunked",), "HTTP/1.1 200 OK", "xchunked"),
        (("Transfer-Encoding: chunked",), "HTTP/1.0 200 OK", "1.0"),
    ],
)
def test_transfer_codings_that_would_leave_doubt_are_refused(
    fields: tuple[str, ...], status: str, complaint: str
) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        head(*fields, status=status).body_length(to_head=False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "folded"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "not a field line: 'A : b'"),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", "not a field line"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not a field line"),
        ("HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", "not a field line"),
        ("HTTP/1.1 200 OK\r\nA: b\x7fc\r\n\r\n", "not a field line"),
        ("HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n", "CR or LF alone"),
        ("HTTP/1.1 200 OK\r\nA: b\rB: c\r\n\r\n", "CR or LF alone"),
        ("HTTP/1.1 200 OK\n\r\n\r\n", "CR or LF alone"),
        ("HTTP/1.1 20 OK\r\n\r\n", "not a status line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "not a status line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "not a status line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "not a status line"),
        ("HTTP/2 200 OK\r\n\r\n", "not a status line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "not a status line"),
        ("HTTP/1.1 200 O\x1bK\r\n\r\n", "not a status line"),
        ("HTTP/1.1 200 OK\r\nÄ: b\r\n\r\n", "not a field line"),
        ("HTTP/1.1 200 OK\r\n", "without an end"),
    ],
)
def test_a_head_that_is_not_one_is_refused_by_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        ResponseHead(text)
