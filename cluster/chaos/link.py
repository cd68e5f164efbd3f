"""A bad link to an S3 server: it breaks after so many bytes, is slow, throttles, and lets credentials expire.

Bodies pass through as they come, so that what was on the way when the link broke has cost its bytes, and is counted.
"""

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from cluster.chaos.proxy import PassingHandler, serving


@dataclass(frozen=True)
class Faults:
    """What is bad about a link. None, or 0: not that.

    break_bytes: after so many bytes of bodies every open connection is reset, again and again; throttled_every: each
    n-th request is answered with 503 SlowDown; expire_bytes: after so many bytes each key that was used is refused;
    bytes_per_second: for all connections together; buffer_bytes: what a connection holds back on its way.
    """

    break_bytes: int | None = None
    throttled_every: int = 0
    expire_bytes: int | None = None
    bytes_per_second: float | None = None
    buffer_bytes: int = 64 << 10


class Link:
    """A running link. State: the bytes of bodies that passed (`sent` to the server, `received` from it), what went
    wrong, and the keys that have expired.

    renew: called with a number when keys expire, to make a new one known to the client.
    """

    def __init__(
        self, endpoint: str, faults: Faults, renew: Callable[[int], None] = lambda number: None
    ) -> None:
        self.faults, self._renew = faults, renew
        self.sent = self.received = self.requests = self.breaks = self.throttled = self.refused = (
            self.expiries
        ) = 0
        self._keys: set[str] = set()
        self._expired: set[str] = set()
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        link = self

        class Handler(_Handler):
            of = link
            target = urlsplit(endpoint).netloc

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def refusal(self, key: str) -> tuple[int, str] | None:
        """How a request is refused: a status and a code; None: it is not."""
        with self._lock:
            self.requests += 1
            if key in self._expired:
                self.refused += 1
                return 400, "ExpiredToken"
            self._keys.add(key)
            if self.faults.throttled_every and self.requests % self.faults.throttled_every == 0:
                self.throttled += 1
                return 503, "SlowDown"
        return None

    def passed(self, count: int, *, is_sent: bool) -> None:
        """So many bytes have passed; breaks the link, or lets keys expire, where it is time."""
        with self._lock:
            before = self.sent + self.received
            self.sent, self.received = self.sent + count * is_sent, self.received + count * (not is_sent)
            after = before + count
            if _is_crossed(self.faults.expire_bytes, before, after):
                self._expired |= self._keys
                self.expiries += 1
                self._renew(self.expiries)
            if _is_crossed(self.faults.break_bytes, before, after):
                self.breaks += 1
                for handler in self._open:
                    handler.break_off()
                self._open.clear()
            wait = 0.0
            if self.faults.bytes_per_second:
                now = time.monotonic()
                self._free_at = max(now, self._free_at) + count / self.faults.bytes_per_second
                wait = self._free_at - now
        time.sleep(wait)

    @contextmanager
    def held_open(self, handler: Any) -> Iterator[None]:
        """While a body passes, the connection breaks with the link."""
        with self._lock:
            self._open.add(handler)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(handler)


@contextmanager
def bad_link(
    endpoint: str, faults: Faults, renew: Callable[[int], None] = lambda number: None
) -> Iterator[Link]:
    """A link for the block."""
    link = Link(endpoint, faults, renew)
    with serving(link.server):
        yield link


def _is_crossed(every: int | None, before: int, after: int) -> bool:
    return every is not None and before // every != after // every


class _Handler(PassingHandler):
    of: Link

    def setup(self) -> None:
        """What waits in a buffer when the link breaks has not been sent, so there is little of it."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.of.faults.buffer_bytes)
        super().setup()

    def break_off(self) -> None:
        """End the connection from another thread, in the midst of what passes: a socket cannot be closed by one."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle_expect_100(self) -> bool:
        """Who asks before it sends a body learns here that it is refused, and sends none."""
        return not self._is_refused() and super().handle_expect_100()

    def _serve(self) -> None:
        asked_before = self.headers.get("Expect", "").lower() == "100-continue"
        with suppress(OSError, ValueError, http.client.HTTPException), self.of.held_open(self):
            if not asked_before and self._is_refused():
                return
            self._pass_on()
            return
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _is_refused(self) -> bool:
        key = re.search(r"Credential=([^/]*)/", self.headers.get("Authorization", ""))
        refusal = self.of.refusal(key.group(1) if key else "")
        if refusal is None:
            return False
        status, code = refusal
        self.close_connection = True  # a body may still come
        content = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.answer(status, [("Content-Type", "application/xml"), ("Connection", "close")], content)
        return True

    def _pass_on(self) -> None:
        """Stream the request to the server and its answer back."""
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in self.dropped_headers:
                    connection.putheader(name, value)
            connection.endheaders()
            left = int(self.headers.get("Content-Length", 0))
            while left and (block := self.rfile.read1(min(left, self.of.faults.buffer_bytes))):
                left -= len(block)
                self.of.passed(len(block), is_sent=True)
                connection.send(block)
            if left:
                raise ConnectionError("the client is gone")
            self._pass_back(connection.getresponse())
        finally:
            connection.close()

    def _pass_back(self, response: http.client.HTTPResponse) -> None:
        self.send_response_only(response.status)
        content = response.read() if response.length is None and self.command != "HEAD" else None
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        blocks = (
            iter(lambda: response.read1(self.of.faults.buffer_bytes), b"")
            if content is None
            else iter([content])
        )
        for block in blocks:
            self.of.passed(len(block), is_sent=False)
            self.wfile.write(block)
