"""A proxy between clients and an S3 server, with a tripwire: it holds back one request while something is killed."""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

HELD_SECONDS = 120.0
"""How long a request is held back at most (our choice): clients give up and try again before."""


class PassingHandler(BaseHTTPRequestHandler):
    """Passes requests on to `target` (host:port) and their answers back."""

    target: str
    dropped_headers: frozenset[str] = frozenset({"expect"})
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def body(self) -> bytes:
        """The request's, whole."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and content of the server's answer."""
        connection = http.client.HTTPConnection(self.target, timeout=60)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in self.dropped_headers
        }
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        """Send an answer; with `cut` half of it, and then a reset."""
        self.send_response_only(status)
        sizes = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header(
            "Content-Length", sizes[0] if self.command == "HEAD" and sizes else str(len(content))
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.reset()

    def reset(self) -> None:
        """Close so that the other side sees a connection reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Tripwire:
    """Waits for the `number`th PUT whose path matches, and holds it back until released. State: what has come."""

    def __init__(self, pattern: str, number: int) -> None:
        self._pattern, self._left = re.compile(pattern), number
        self._lock = threading.Lock()
        self.tripped, self.released = threading.Event(), threading.Event()
        self.path = ""

    def stops(self, method: str, path: str) -> bool:
        """Whether this is the request to hold back."""
        if method != "PUT" or not self._pattern.search(path):
            return False
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return False
        self.path = path
        self.tripped.set()
        return True


class TrippingProxy:
    """A running proxy. State: its tripwire, if one is set."""

    def __init__(self, endpoint: str) -> None:
        self.tripwire: Tripwire | None = None
        proxy = self

        class Handler(PassingHandler):
            target = urlsplit(endpoint).netloc

            def _serve(self) -> None:
                body, wire = self.body(), proxy.tripwire
                if wire is not None and wire.stops(self.command, unquote(self.path)):
                    wire.released.wait(HELD_SECONDS)
                    self.reset()  # never served: whoever asked and lives asks again
                    return
                self.answer(*self.passed_on(body))

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def tripping_proxy(endpoint: str) -> Iterator[TrippingProxy]:
    """A proxy for the block."""
    proxy = TrippingProxy(endpoint)
    with serving(proxy.server):
        yield proxy


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread for the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
