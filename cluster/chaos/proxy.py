"""A proxy between clients and an S3 server, with a tripwire: it holds back one request while something is killed."""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Tripwire:
    """The `number`th PUT whose path matches, counted from its turn on.

    phase: wires of a phase are passed in order, and none of a later one comes before all of an earlier one.
    """

    pattern: str
    number: int
    phase: int = 0
    path: str = ""
    tripped: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def matches(self, path: str) -> bool:
        """Whether a request is one of those counted."""
        return re.search(self.pattern, path) is not None


class Tripwires:
    """Wires that are tripped one after the other; none while `paused`. State: those that are left, and what has come.

    A wire is missed, and tripped with an empty path, if a request of a later phase comes before it.
    """

    def __init__(self, wires: Sequence[Tripwire]) -> None:
        self._left = list(wires)
        self._lock = threading.Lock()
        self._paused = False

    def held(self, method: str, path: str) -> Tripwire | None:
        """The wire that this request trips; pauses."""
        with self._lock:
            if method != "PUT" or self._paused or not self._left:
                return None
            first = self._left[0]
            found = next((wire for wire in self._left if wire.matches(path)), None)
            if found is None or (found is not first and found.phase == first.phase):
                return None
            while self._left[0] is not found:
                self._left.pop(0).tripped.set()
            found.number -= 1
            if found.number > 0:
                return None
            self._left.pop(0)
            self._paused = True
            found.path = path
            found.tripped.set()
            return found

    def go_on(self, again: Tripwire | None = None) -> None:
        """Wait for the next wire; or, because nothing could be done when it came, for one more request of that one."""
        with self._lock:
            if again is not None:
                again.number, again.path = 1, ""
                again.tripped.clear()
                self._left.insert(0, again)
            self._paused = False


class TrippingProxy:
    """A running proxy. State: its tripwires."""

    def __init__(self, endpoint: str) -> None:
        self.tripwires = Tripwires([])
        proxy = self

        class Handler(PassingHandler):
            target = urlsplit(endpoint).netloc

            def _serve(self) -> None:
                body, wire = self.body(), proxy.tripwires.held(self.command, unquote(self.path))
                if wire is not None:
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
