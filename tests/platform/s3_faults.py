"""A proxy between a client and an S3 server that breaks what it is told to break, and counts it."""

import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HANG_SECONDS = 30.0


class FaultyProxy:
    """Passes requests on to `endpoint`, but for planned faults. State: the faults to come and those that happened.

    `served` has the methods of requests passed on; with `ignores_conditions` those with If-Match lose it.

    Faults: "reset" and "hang" before the request is passed on; "lost" after (it takes effect, its answer is lost);
    "cut" ends the answer in the middle; "" is none; anything else is an error code of S3, such as "InternalError",
    with a status.
    """

    def __init__(self, endpoint: str) -> None:
        self.target = urlsplit(endpoint).netloc
        self.planned: deque[tuple[str, str, int]] = deque()
        self.happened: list[str] = []
        self.served: list[str] = []
        self.ignores_conditions = False
        self.down_until = 0.0
        self.closing = threading.Event()
        proxy = self

        class Handler(_Handler):
            faults = proxy

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def plan(self, fault: str, times: int = 1, *, status: int = 500, method: str = "") -> None:
        """Break the next `times` requests (of a method) in this way."""
        self.planned.extend([(fault, method, status)] * times)

    def go_down(self, seconds: float) -> None:
        """From now on no request is served for so long."""
        self.down_until = time.monotonic() + seconds

    def next_fault(self, method: str) -> tuple[str, int] | None:
        if time.monotonic() < self.down_until:
            self.happened.append("down")
            return "reset", 0
        if self.planned and self.planned[0][1] in ("", method):
            fault, _, status = self.planned.popleft()
            if not fault:
                return None
            self.happened.append(fault)
            return fault, status
        return None


@contextmanager
def faulty_proxy(endpoint: str) -> Iterator[FaultyProxy]:
    """A running proxy."""
    proxy = FaultyProxy(endpoint)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    faults: FaultyProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faults.next_fault(self.command)
        if fault is None:
            self._answer(*self._passed_on(body))
            return
        kind, status = fault
        if kind == "hang":
            self.faults.closing.wait(HANG_SECONDS)
        if kind in ("reset", "hang"):
            self._reset()
        elif kind == "lost":
            self._passed_on(body)
            self._reset()
        elif kind == "cut":
            self._answer(*self._passed_on(body), cut=True)
        else:
            content = f"<Error><Code>{kind}</Code><Message>{kind}</Message></Error>".encode()
            self._answer(status, [("Content-Type", "application/xml")], content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.faults.target, timeout=60)
        self.faults.served.append(self.command)
        dropped = {"expect"} | ({"if-match", "if-none-match"} if self.faults.ignores_conditions else set())
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        sizes = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        size = sizes[0] if self.command == "HEAD" and sizes else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """Close so that the other side sees a connection reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
