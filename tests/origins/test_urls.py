"""Where URLs and redirects lead, and what is refused before a byte is sent."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncfetch.http import Endpoint
from asyncfetch.origins.proxies import configured_proxy
from asyncfetch.origins.urls import Page, UnfitURL, find_page, follow

HERE = find_page("https", "here.example", "/dir/page?query")


@pytest.mark.parametrize(
    ("scheme", "authority", "endpoint", "host"),
    [
        ("http", "example.com", ("example.com", 80, False), "example.com"),
        ("https", "Example.COM:443", ("example.com", 443, True), "example.com"),
        ("https", "example.com:80", ("example.com", 80, True), "example.com:80"),
        ("http", "example.com:", ("example.com", 80, False), "example.com"),
        ("http", "127.0.0.1:8000", ("127.0.0.1", 8000, False), "127.0.0.1:8000"),
        ("http", "[::1]", ("::1", 80, False), "[::1]"),
        ("https", "[0:0::1]:8443", ("::1", 8443, True), "[::1]:8443"),
        ("https", "bücher.example", ("xn--bcher-kva.example", 443, True), "xn--bcher-kva.example"),
        ("https", "under_score.example", ("under_score.example", 443, True), "under_score.example"),
    ],
)
def test_hosts_and_ports(scheme: str, authority: str, endpoint: tuple[str, int, bool], host: str) -> None:
    page = find_page(scheme, authority, "/")
    assert (page.endpoint, page.host) == (Endpoint(*endpoint), host)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "a b",
        "a:b",
        "a:1:2",
        "a:0",
        "a:65536",
        "a:999999",
        "[::1",
        "::1",
        "[1.2.3.4.5]",
        "[fe80::1%25eth0]",
        "a\r\nx: y",
        "a%2eb",
        "a..ü",
        "ex\uff0fample",
        "a\\b",
        "a" * 254,
        "a\0",
    ],
)
def test_what_is_no_host_is_refused(authority: str) -> None:
    with pytest.raises(UnfitURL):
        find_page("http", authority, "/")


@pytest.mark.parametrize("authority", ["user:hush@example.com", "hush@example.com", "@example.com"])
def test_a_user_name_or_password_is_refused_and_not_repeated(authority: str) -> None:
    with pytest.raises(UnfitURL, match="user name or password") as caught:
        find_page("https", authority, "/")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/plain-._~/a/../b//c", "/plain-._~/a/../b//c"),
        ("/a%20b%2Fc%zz%", "/a%20b%2Fc%25zz%25"),
        ("/ü/😀?q=ü&r=%C3%BC", "/%C3%BC/%F0%9F%98%80?q=%C3%BC&r=%C3%BC"),
        ('/a b"<>\\^`{|}[]#', "/a%20b%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D%23"),
        ("/?a=/?:@!$&'()*+,;=", "/?a=/?:@!$&'()*+,;="),
        ("/\r\nX-Injected: yes\0\x7f", "/%0D%0AX-Injected:%20yes%00%7F"),
    ],
)
def test_paths_are_encoded_once(path: str, target: str) -> None:
    assert find_page("http", "h", path).target == target


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example("%%%41")
def test_any_path_stands_in_a_request_line_and_is_encoded_only_once(path: str) -> None:
    target = find_page("http", "h", "/" + path).target
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert find_page("http", "h", target).target == target
    assert unquote_to_bytes(target) == unquote_to_bytes("/" + path)


@pytest.mark.parametrize("path", ["", "a", "?q", "/\ud800"])
def test_a_path_that_cannot_be_sent_is_refused(path: str) -> None:
    with pytest.raises(UnfitURL):
        find_page("http", "h", path)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://there.example:444/x?y#z", "https://there.example:444/x?y"),
        ("//there.example", "https://there.example/"),
        ("/x", "https://here.example/x"),
        ("x/y", "https://here.example/dir/x/y"),
        ("../x", "https://here.example/x"),
        ("?other", "https://here.example/dir/page?other"),
        ("#part", "https://here.example/dir/page?query"),
        ("/%41 b", "https://here.example/%41%20b"),
        ("/ü".encode().decode("latin-1"), "https://here.example/%C3%BC"),
        ("/\xfc", "https://here.example/%FC"),
        ("HTTPS://There.Example/X", "https://there.example/X"),
        ("/\\evil.example/x", "https://here.example/%5Cevil.example/x"),
    ],
)
def test_redirects_are_read_against_the_page(location: str, url: str) -> None:
    assert str(follow(HERE, location)) == url


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://here.example/", "from https to http"),
        ("ftp://here.example/", "ftp"),
        ("javascript:alert(1)", "javascript"),
        ("file:///etc/passwd", "file"),
        ("https://user:hush@there.example/", "password"),
        ("https://:80/", "no host"),
        ("https://[::1/", "no URL"),
    ],
)
def test_redirects_that_are_not_followed(location: str, said: str) -> None:
    with pytest.raises(UnfitURL, match=said) as caught:
        follow(HERE, location)
    assert "hush" not in str(caught.value)


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
@example("https:\\\\@")
@example("//[")
def test_any_location_leads_somewhere_or_is_refused(location: str) -> None:
    try:
        page = follow(HERE, location)
    except UnfitURL:
        return
    assert page.endpoint.tls
    assert str(page).isascii()
    assert find_page(page.scheme, page.host, page.target) == page


def test_a_page_on_http_may_lead_to_https() -> None:
    assert follow(find_page("http", "h", "/"), "https://h/").endpoint == Endpoint("h", 443, True)


@pytest.mark.parametrize(
    ("variables", "endpoint", "chosen"),
    [
        ({}, Endpoint("h", 80, False), None),
        ({"HTTP_PROXY": "http://p"}, Endpoint("h", 80, False), "HTTP_PROXY"),
        ({"http_proxy": "http://p"}, Endpoint("h", 80, False), "HTTP_PROXY"),
        ({"HTTP_PROXY": "http://p"}, Endpoint("h", 443, True), None),
        ({"HTTPS_PROXY": "http://p"}, Endpoint("h", 443, True), "HTTPS_PROXY"),
        ({"ALL_PROXY": "socks5://p"}, Endpoint("h", 443, True), "ALL_PROXY"),
        ({"HTTPS_PROXY": ""}, Endpoint("h", 443, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h"}, Endpoint("h", 443, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "x, .example.com"}, Endpoint("a.example.com", 443, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, Endpoint("h", 443, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h:9000"}, Endpoint("h", 9000, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h:9000"}, Endpoint("h", 9001, True), "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "::1"}, Endpoint("::1", 443, True), None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "other"}, Endpoint("h", 443, True), "HTTPS_PROXY"),
    ],
)
def test_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: Endpoint, chosen: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert configured_proxy(endpoint) == chosen


def test_a_page_is_shown_as_its_url() -> None:
    assert str(Page("http", Endpoint("::1", 81, False), "[::1]:81", "/a")) == "http://[::1]:81/a"
