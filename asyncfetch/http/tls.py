"""The TLS context of the client: verification on, the system's roots or a given bundle, sessions resumed."""

from __future__ import annotations

import importlib.util
import logging
import os
import ssl
import time
from pathlib import Path
from typing import Final

from asyncfetch.errors import UsageError

logger = logging.getLogger(__name__)

# Seconds for which a session is resumed: the certificate is looked at so often at least. A week is the most that RFC
# 8446, section 4.6.1, allows.
SESSION_LIFETIME: Final = 3600.0
MOST_SESSIONS: Final = 64  # hosts; a bucket may be one each


class ResumingContext(ssl.SSLContext):
    """A context whose connections to a host go on with the session of an earlier one, where the server still knows it.

    That is a third to a half of a handshake's CPU (0.5 of 1.0 ms with a P-256 certificate), and before TLS 1.3 one of
    its two round trips. A server that knows the session no more makes a new one. Nothing is sent before the handshake
    is done, so nothing can be replayed.
    """

    def __init__(self, protocol: int) -> None:
        self._sessions: dict[str, tuple[ssl.SSLSession, float]] = {}

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """What asyncio's loops make their connections with."""
        kept = self._sessions.get(str(server_hostname))
        if session is None and kept is not None and time.monotonic() - kept[1] < SESSION_LIFETIME:
            session = kept[0]
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def keep(self, made: ssl.SSLObject) -> None:
        """Keeps a connection's session for others to its host, if it is one that began with a certificate.

        To be called once bytes came of the connection: in TLS 1.3 the server's tickets come after the handshake.
        """
        if not made.session_reused and made.session is not None:
            self._sessions.pop(str(made.server_hostname), None)
            self._sessions[str(made.server_hostname)] = made.session, time.monotonic()
            if len(self._sessions) > MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]


def client_context(*, ca_bundle: str | os.PathLike[str] | None = None, verify: bool = True) -> ssl.SSLContext:
    """Makes a context for connections to servers, TLS 1.2 or later, host names checked.

    `ca_bundle` is a PEM file, or a directory as of `openssl rehash`; None is `AWS_CA_BUNDLE`, else the system's store.
    `verify=False` trusts every certificate, and says so in the log each time. Reads files, 10-20 ms for a usual store.
    Raises `UsageError` when the bundle cannot be read.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        logger.warning("TLS certificates are not verified: anyone on the way can read and change what is transferred")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle = ca_bundle or os.environ.get("AWS_CA_BUNDLE")
    if bundle:
        _load(context, Path(bundle), "ca_bundle" if ca_bundle else "AWS_CA_BUNDLE")
        return context
    context.load_default_certs()
    spare = None if _has_roots(context) else _spare_bundle()
    if spare is not None:
        _load(context, spare, "the bundle found")
    return context


def _load(context: ssl.SSLContext, bundle: Path, name: str) -> None:
    try:
        if bundle.is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except (OSError, ssl.SSLError) as error:
        detail = "holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"{name} {str(bundle)!r}: {detail}", remedy="Name a file of PEM certificates.") from error


def _has_roots(context: ssl.SSLContext) -> bool:
    """Whether the system's store has anything; a directory of certificates is read only when one is needed."""
    directory = ssl.get_default_verify_paths().capath
    return context.cert_store_stats()["x509_ca"] > 0 or (directory is not None and any(Path(directory).iterdir()))


def _spare_bundle() -> Path | None:
    """A bundle that some package brought along, for a Python without a store, as python.org's for macOS is at first."""
    for package in ("certifi", "botocore"):
        found = importlib.util.find_spec(package)
        for directory in found.submodule_search_locations or () if found else ():
            if (bundle := Path(directory) / "cacert.pem").is_file():
                return bundle
    return None
