"""What can go wrong between a request and its whole response. Origins translate these into the package's own errors."""

from __future__ import annotations


class HTTPError(Exception):
    """Base of this room's errors."""


class ConnectFailed(HTTPError):
    """Raised when no connection could be made: the name does not resolve, or every address refused."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"cannot connect to {where}: {reason}")


class NameFailed(ConnectFailed):
    """Raised when the server's name does not resolve."""


class TLSFailed(HTTPError):
    """Raised when the TLS handshake failed: a certificate that is not trusted, or a port that does not speak TLS."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"no TLS with {where}: {reason}")


class CertificateRefused(TLSFailed):
    """Raised when the server's certificate is not trusted for its name."""


class ConnectTimeout(HTTPError, TimeoutError):
    """Raised when a connection was not ready in time. `phase` says what was being waited for."""

    def __init__(self, where: str, seconds: float, phase: str) -> None:
        super().__init__(f"no connection to {where} within {seconds:g} s ({phase})")
        self.phase = phase


class ReadTimeout(HTTPError, TimeoutError):
    """Raised when the server was silent for too long, before the response or within it."""

    def __init__(self, seconds: float, progress: str) -> None:
        super().__init__(f"the server sent nothing for {seconds:g} s ({progress})")


class Stalled(ReadTimeout):
    """Raised when a response that had begun came too slowly."""

    def __init__(self, count: int, seconds: float, progress: str) -> None:
        HTTPError.__init__(self, f"the server sent {count} bytes in {seconds:.0f} s ({progress})")


class ConnectionLost(HTTPError):
    """Raised when the connection ended before the response was whole.

    `stale` says that not one byte of the response had come, as when a server closes an idle connection while a request
    is on its way. The client has then already repeated the request once where that was allowed.
    """

    def __init__(self, progress: str, *, stale: bool = False) -> None:
        super().__init__(f"the connection ended early ({progress})")
        self.stale = stale


class ProtocolError(HTTPError):
    """Raised when what the server sent is not HTTP/1.1, or contradicts itself. The message says what was wrong."""


class ResponseTooLarge(HTTPError):
    """Raised when a body that is collected in memory is larger than the caller allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the response is larger than the {limit} bytes allowed for it")
        self.limit = limit


class ClientClosed(HTTPError):
    """Raised when a request is made on a closed client, or was under way when it closed."""

    def __init__(self) -> None:
        super().__init__("the client is closed")
