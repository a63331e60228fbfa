"""The program of the embedded S3 server's process: moto behind a counter, led by lines on its standard input.

It answers each line with a line of JSON: first its port, then what is asked. The end of the input, which is also how
the death of the parent shows, ends the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def serve() -> None:
    """Serves S3 until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class QuietHandler(MotoRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            """Says nothing: the parent counts."""

    class Dispatcher(DomainDispatcherApplication):
        """Looks up once which service a host is of: moto lists its whole package for it, a quarter of a request."""

        services: ClassVar[dict[str | None, Any]] = {}

        def get_backend_for_host(self, host: str | None) -> Any:
            if host not in self.services:
                self.services[host] = super().get_backend_for_host(host)
            return self.services[host]

    counting = _Counting(Dispatcher(create_backend_app))
    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads it from here on
    _say(server.server_port)
    for line in sys.stdin:
        if line.strip() == "reset":
            counting.reset()
        _say(counting.seen())
    os._exit(0)  # without waiting for requests under way


class _Counting:
    """A WSGI application around another that counts what it answers, and lets it do one conditional write at a time.

    S3 looks and writes in one step; moto in two, between which another may write.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._seen: Counter[tuple[str, str, int]] = Counter()
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def counted(status: str, *rest: Any) -> Any:
            # Before the answer is sent: whoever has it can rely on its having been counted.
            path = unquote(environ["REQUEST_URI"].partition("?")[0])
            with self._lock:
                self._seen[environ["REQUEST_METHOD"], path, int(status[:3])] += 1
            return start_response(status, *rest)

        conditional = environ.keys() & {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}
        with self._writing if conditional and environ["REQUEST_METHOD"] != "GET" else nullcontext():
            return self._application(environ, counted)

    def seen(self) -> list[tuple[str, str, int, int]]:
        with self._lock:
            return [(*request, count) for request, count in self._seen.items()]

    def reset(self) -> None:
        with self._lock:
            self._seen.clear()


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)
