import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.origins.listing import ErrorDocument, parse_error


def test_error_documents() -> None:
    wrong_region = b"""<?xml version="1.0" encoding="UTF-8"?>
    <Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region
    &apos;us-east-1&apos; is wrong; expecting &apos;eu-west-1&apos;</Message><Region>eu-west-1</Region>
    <RequestId>4442587FB7D0A2F9</RequestId><HostId>x/y=</HostId></Error>"""
    assert parse_error(wrong_region) == ErrorDocument(
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
        "4442587FB7D0A2F9",
        "eu-west-1",
        None,
    )
    archived = b"<Error><Code>InvalidObjectState</Code><StorageClass>GLACIER</StorageClass></Error>"
    assert parse_error(archived) == ErrorDocument("InvalidObjectState", storage_class="GLACIER")
    skewed = (
        b"<Error><Code>RequestTimeTooSkewed</Code><RequestTime>20260101T000000Z</RequestTime>"
        b"<ServerTime>2026-01-01T03:00:00Z</ServerTime></Error>"
    )
    assert parse_error(skewed) == ErrorDocument("RequestTimeTooSkewed", server_time="2026-01-01T03:00:00Z")
    moved = b"<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>"
    assert parse_error(moved) == ErrorDocument("PermanentRedirect", endpoint="b.s3.eu-west-1.amazonaws.com")
    of_sts = (
        b'<ErrorResponse xmlns="x"><Error><Code>ExpiredToken</Code></Error><RequestId>1-2</RequestId></ErrorResponse>'
    )
    assert parse_error(of_sts) == ErrorDocument("ExpiredToken", request_id="1-2")
    prefixed = b'<s3:Error xmlns:s3="x"><s3:Code>NoSuchKey</s3:Code></s3:Error>'
    assert parse_error(memoryview(prefixed)) == ErrorDocument("NoSuchKey")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"Service Unavailable",
        b"<html><head><title>502</title></head><body><Code>x</Code></body></html>",
        b'{"Code": "NoSuchKey"}',
        b"<Error/>",
        b"<Error></Error>",
        b"<Error><Code></Code><Message></Message></Error>",
        b"<Error><Code>two words</Code></Error>",
        b" " * 65_536 + b"<Error><Code>TooFar</Code></Error>",
    ],
)
def test_what_is_no_error_document_says_nothing(body: bytes) -> None:
    assert parse_error(body) == ErrorDocument()


def test_an_error_document_cut_off_anywhere_never_gives_half_a_word() -> None:
    body = (
        b"<Error><Code>NoSuchKey</Code><Message>It is &quot;gone&quot;.</Message><Region>eu-west-1</Region>"
        b"<Endpoint>host.example</Endpoint><RequestId>4442587F</RequestId></Error>"
    )
    whole = parse_error(body)
    assert whole == ErrorDocument("NoSuchKey", 'It is "gone".', "4442587F", "eu-west-1", "host.example")
    for stop in range(len(body)):
        part = parse_error(body[:stop])
        for name in ("code", "request_id", "region", "endpoint"):
            assert getattr(part, name) in (None, getattr(whole, name))
        assert 'It is "gone".'.startswith((part.message or "").partition("&")[0].partition('"')[0])


def test_an_errors_message_is_one_bounded_printable_line() -> None:
    body = (
        "<Error><Code>C</Code><Message>a\n\tb&#27;[31mc\x1b[0m\u202ed &lt;e&gt; " + "x" * 90_000 + "</Message></Error>"
    )
    message = parse_error(body.encode()).message
    assert message is not None
    assert message.startswith("a b[31mc [0m d <e> xxx")
    assert len(message) == 1000
    assert message.isprintable()


def test_nothing_secret_is_taken_from_an_error_document() -> None:
    body = (
        b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        b"<Token-0>IQoJhush</Token-0><AWSAccessKeyId>AKIAhush</AWSAccessKeyId></Error>"
    )
    assert "hush" not in repr(parse_error(body))


@given(st.binary(max_size=300) | st.text("<>/ErorCdeMsag&;#x1", max_size=200).map(str.encode))
def test_no_bytes_make_the_reading_of_an_error_fail(body: bytes) -> None:
    for document_ in (body, b"<Error>" + body):
        found = parse_error(document_)
        assert found.message is None or found.message.isprintable()
