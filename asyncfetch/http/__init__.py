"""An HTTP/1.1 client on asyncio that receives bodies straight into the caller's buffers. It knows nothing of S3."""

from asyncfetch.http.client import Client, Statistics
from asyncfetch.http.dial import Endpoint
from asyncfetch.http.errors import (
    CertificateRefused,
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    HTTPError,
    NameFailed,
    ProtocolError,
    ReadTimeout,
    ResponseTooLarge,
    Stalled,
    TLSFailed,
)
from asyncfetch.http.exchange import Exchange
from asyncfetch.http.head import ResponseHead
from asyncfetch.http.parser import Response
from asyncfetch.http.sink import Sink
from asyncfetch.http.tls import client_context

__all__ = [
    "CertificateRefused",
    "Client",
    "ClientClosed",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "Endpoint",
    "Exchange",
    "HTTPError",
    "NameFailed",
    "ProtocolError",
    "ReadTimeout",
    "Response",
    "ResponseHead",
    "ResponseTooLarge",
    "Sink",
    "Stalled",
    "Statistics",
    "TLSFailed",
    "client_context",
]
