"""A way to an S3 server: on which writing is forbidden after so many objects, or that tells what passes."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DENIED = "<Error><Code>AccessDenied</Code><Message>{}</Message></Error>"


@contextmanager
def refusing_writes(endpoint_url: str, after: int, why: str = "Access Denied") -> Iterator[str]:
    """Passes requests on to a server, but for PUTs after the first so many. Gives its URL."""
    left, lock = after, threading.Lock()

    def refused(method: str, path: str) -> str | None:
        nonlocal left
        with lock:
            passed = method != "PUT" or left > 0
            left -= method == "PUT"
        return None if passed else why

    with _passing(endpoint_url, refused) as url:
        yield url


@contextmanager
def seeing(endpoint_url: str, seen: Callable[[str, str], None]) -> Iterator[str]:
    """Passes requests on to a server, once `seen` was called with their method and path. Gives its URL."""
    with _passing(endpoint_url, seen) as url:
        yield url


@contextmanager
def _passing(endpoint_url: str, refused: Callable[[str, str], str | None]) -> Iterator[str]:
    there = urlsplit(endpoint_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            why = refused(self.command, self.path)
            status, headers, answer = 403, [("Content-Type", "application/xml")], DENIED.format(why).encode()
            if why is None:
                connection = http.client.HTTPConnection(there)
                headers_sent = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body, headers_sent)
                found = connection.getresponse()
                status, answer = found.status, found.read()
                headers = [
                    (name, value)
                    for name, value in found.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding", "date", "server")
                    and (name.lower() != "content-length" or self.command == "HEAD")
                ]
                connection.close()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_HEAD = do_PUT = handle_any

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
