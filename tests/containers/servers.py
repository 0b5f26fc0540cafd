"""Servers of live sound on this machine: HTTP and HTTPS with any answers, and a small RTSP server.

Takes: what each path answers. Gives: an address, and what was asked. Threads of their own, so that the
daemon under test has its loop for itself.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One GET. An answer may take its time; ``server.closing`` is set when everything must end."""

    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((path, self.headers.get("Authorization", "")))
        answer = self.server.answers.get(path)
        with suppress(ConnectionError):
            if answer is None:
                self.send_error(404)
            else:
                answer(self)

    def give(self, body: bytes, kind: str = "application/octet-stream") -> None:
        """All of ``body``, and its length."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, *pieces: bytes, stay: bool = True) -> None:
        """As a radio: no length, and the connection stays open unless it is to end."""
        self.send_response(200)
        self.send_header("Content-Type", "application/ogg")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        if stay:
            self.server.closing.wait(120)
        self.close_connection = True

    def send_on(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's name)
        """Not on the test's output."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str) -> str:
        return f"{self.scheme}://localhost:{self.port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or that did not like our certificate."""


@contextmanager
def serving(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(port, tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
