"""The TLS context of the client: verification on, the system's roots or a given bundle."""

from __future__ import annotations

import importlib.util
import logging
import os
import ssl
from pathlib import Path

from asyncfetch.errors import UsageError

logger = logging.getLogger(__name__)


def client_context(*, ca_bundle: str | os.PathLike[str] | None = None, verify: bool = True) -> ssl.SSLContext:
    """Makes a context for connections to servers, TLS 1.2 or later, host names checked.

    `ca_bundle` is a PEM file, or a directory as of `openssl rehash`; None is `AWS_CA_BUNDLE`, else the system's store.
    `verify=False` trusts every certificate, and says so in the log each time. Reads files, 10-20 ms for a usual store.
    Raises `UsageError` when the bundle cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
