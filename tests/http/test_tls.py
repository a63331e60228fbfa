from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from asyncfetch.errors import UsageError
from asyncfetch.http import Client, ConnectTimeout, Endpoint, TLSFailed, client_context
from asyncfetch.http import tls as http_tls
from asyncfetch.testing.scripted import ScriptedServer
from tests.http.helpers import Asking, Channel, Hold, answer, get, leaving_nothing

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def fetch(server_context: ssl.SSLContext, make: Callable[[], ssl.SSLContext]) -> bytes:
    async with leaving_nothing(), ScriptedServer([answer(b"ab")], tls=server_context) as server:
        client = Client(tls=make, connect_timeout=5)
        try:
            return (await get(client, server)).body
        finally:
            await client.aclose()


async def test_a_bundle_may_be_given(tls: Channel, bundle: Path) -> None:
    assert tls.server is not None
    assert await fetch(tls.server, lambda: client_context(ca_bundle=bundle)) == b"ab"


async def test_a_bundle_may_come_from_the_environment(
    tls: Channel, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tls.server is not None
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    assert await fetch(tls.server, client_context) == b"ab"


async def test_a_bundle_may_be_a_directory(tls: Channel, tmp_path: Path) -> None:
    assert tls.server is not None
    with pytest.raises(TLSFailed, match="not trusted"):
        await fetch(tls.server, lambda: client_context(ca_bundle=tmp_path))


async def test_a_stranger_is_not_trusted(tls: Channel) -> None:
    assert tls.server is not None
    with pytest.raises(TLSFailed, match="the certificate is not trusted") as caught:
        await fetch(tls.server, client_context)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize(
    ("fault", "complaint"), [("expired", "expired"), ("self-signed", "self-signed"), ("another name", "mismatch")]
)
async def test_a_certificate_that_proves_nothing_is_refused(
    authority: trustme.CA, bundle: Path, fault: str, complaint: str
) -> None:
    name, expires, issuer = "127.0.0.1", None, authority
    if fault == "expired":
        expires = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    elif fault == "self-signed":
        issuer = trustme.CA()
    else:
        name = "elsewhere.example"
    server = Channel.over_tls(issuer, issuer.issue_cert(name, not_after=expires)).server
    assert server is not None
    if fault == "self-signed":
        # A root as the server's own certificate, as `openssl req -x509` makes them.
        own = bundle.with_name("own.pem")
        own.write_bytes(issuer.private_key_pem.bytes() + issuer.cert_pem.bytes())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(own)
    with pytest.raises(TLSFailed, match=complaint):
        await fetch(server, lambda: client_context(ca_bundle=bundle))


async def test_verification_can_be_turned_off_and_says_so(tls: Channel, caplog: pytest.LogCaptureFixture) -> None:
    assert tls.server is not None
    with caplog.at_level(logging.WARNING, "asyncfetch"):
        assert await fetch(tls.server, lambda: client_context(verify=False)) == b"ab"
    assert "not verified" in caplog.text


async def test_the_name_is_sent_for_servers_of_many_names(tls: Channel) -> None:
    assert tls.server is not None
    asked: list[str | None] = []
    tls.server.sni_callback = lambda connection, name, context: asked.append(name)
    try:
        async with ScriptedServer([answer()], tls=tls.server) as server:
            client = Client(tls=lambda: client_context(verify=False))
            endpoint = Endpoint("localhost", server.port, True)
            await client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"))
            await client.aclose()
    finally:
        tls.server.sni_callback = None
    assert asked == ["localhost"]


async def test_one_context_serves_all_connections(tls: Channel) -> None:
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(client_context(verify=False))
        return made[-1]

    everyone = asyncio.Event()
    async with ScriptedServer(lambda request: [Hold(everyone), answer()], tls=tls.server) as server:
        client = Client(tls=make)
        under_way = [get(client, server) for _ in range(4)]
        await server.until(lambda: len(server.requests) == 4)
        everyone.set()
        await asyncio.gather(*under_way)
        await client.aclose()
    assert len(made) == 1


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
CLOSING = answer(b"ab", headers=["Connection: close"])


def serving(authority: trustme.CA, *names: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """The context of a server that has no sessions yet."""
    context = Channel.over_tls(authority, authority.issue_cert("127.0.0.1", *names)).server
    assert context is not None
    context.minimum_version = context.maximum_version = version
    return context


def resumed(server: ssl.SSLContext) -> int:
    return server.session_stats()["hits"]


@VERSIONS
async def test_a_later_connection_goes_on_with_the_session(
    version: ssl.TLSVersion, authority: trustme.CA, bundle: Path
) -> None:
    context = serving(authority, version=version)
    async with leaving_nothing(), ScriptedServer(lambda request: CLOSING, tls=context) as server:
        client = Client(tls=lambda: client_context(ca_bundle=bundle))
        for _ in range(3):
            assert (await get(client, server)).body == b"ab"
        await client.aclose()
    assert (server.connections, resumed(context)) == (3, 2)


@VERSIONS
async def test_a_server_that_has_forgotten_it_makes_a_new_one(
    version: ssl.TLSVersion, authority: trustme.CA, bundle: Path
) -> None:
    client = Client(tls=lambda: client_context(ca_bundle=bundle))
    for _ in range(2):  # at the same address, as after a restart
        context = serving(authority, version=version)
        async with ScriptedServer(lambda request: CLOSING, tls=context) as server:
            for _ in range(2):
                assert (await get(client, server)).body == b"ab"
        assert resumed(context) == 1
    await client.aclose()


async def test_a_stranger_with_the_session_of_another_is_not_trusted(authority: trustme.CA, bundle: Path) -> None:
    client = Client(tls=lambda: client_context(ca_bundle=bundle))
    async with ScriptedServer(lambda request: CLOSING, tls=serving(authority)) as server:
        await get(client, server)
    async with ScriptedServer(lambda request: CLOSING, tls=serving(trustme.CA())) as server:
        with pytest.raises(TLSFailed, match="not trusted"):
            await get(client, server)
    await client.aclose()


async def test_a_session_is_of_one_host(authority: trustme.CA, bundle: Path) -> None:
    context = serving(authority, "localhost")
    async with ScriptedServer(lambda request: CLOSING, tls=context) as server:
        client = Client(tls=lambda: client_context(ca_bundle=bundle))
        for host in ("127.0.0.1", "localhost"):
            endpoint = Endpoint(host, server.port, True)
            await client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"))
        await client.aclose()
    assert (server.connections, resumed(context)) == (2, 0)


async def test_the_certificate_is_asked_for_again_after_a_while(
    authority: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = serving(authority)
    async with ScriptedServer(lambda request: CLOSING, tls=context) as server:
        client = Client(tls=lambda: client_context(ca_bundle=bundle))
        for _ in range(2):
            await get(client, server)
        assert resumed(context) == 1
        monkeypatch.setattr(http_tls, "SESSION_LIFETIME", 0.0)
        await get(client, server)
        assert resumed(context) == 1
        await client.aclose()


async def test_sessions_of_the_latest_hosts_are_kept(
    authority: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_tls, "MOST_SESSIONS", 1)
    context = serving(authority, "localhost")
    async with ScriptedServer(lambda request: CLOSING, tls=context) as server:
        client = Client(tls=lambda: client_context(ca_bundle=bundle))
        for host, hits in (("127.0.0.1", 0), ("localhost", 0), ("localhost", 1), ("127.0.0.1", 1)):
            endpoint = Endpoint(host, server.port, True)
            await client.request(endpoint, Asking(lambda: b"GET / HTTP/1.1\r\n\r\n"))
            assert resumed(context) == hits
        await client.aclose()


async def test_a_context_that_cannot_be_made_is_heard_of(tls: Channel, tmp_path: Path) -> None:
    assert tls.server is not None
    with pytest.raises(UsageError, match=r"missing\.pem.*No such file"):
        await fetch(tls.server, lambda: client_context(ca_bundle=tmp_path / "missing.pem"))


async def test_what_making_a_context_raises_is_not_taken_for_the_servers_fault(tls: Channel) -> None:
    def make() -> ssl.SSLContext:
        raise FileNotFoundError(2, "No such file", "roots.pem")

    assert tls.server is not None
    with pytest.raises(FileNotFoundError):
        await fetch(tls.server, make)


async def test_a_handshake_that_never_ends_is_named(tls: Channel) -> None:
    """A port that waits for the client to speak its own protocol first, and does not know that this is not it."""
    async with leaving_nothing(), ScriptedServer() as server:
        client = tls.new_client(connect_timeout=0.2)
        with pytest.raises(ConnectTimeout, match="in the TLS handshake") as caught:
            await get(client, server, tls=True)
        assert isinstance(caught.value, TimeoutError)
        await server.until(lambda: server.open == 0)
        await client.aclose()


def test_a_bundle_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificates here")
    with pytest.raises(UsageError, match=r"ca_bundle '.*broken\.pem': holds no certificates"):
        client_context(ca_bundle=broken)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="AWS_CA_BUNDLE"):
        client_context()


def test_the_system_store_or_a_bundle_brought_along_is_trusted() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    paths = ssl.get_default_verify_paths()
    from_directory = paths.capath is not None and any(Path(paths.capath).iterdir())
    assert context.cert_store_stats()["x509_ca"] > 0 or from_directory


def test_without_a_system_store_a_bundle_brought_along_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    assert client_context().cert_store_stats()["x509_ca"] > 50
