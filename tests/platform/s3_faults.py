"""A proxy between a client and an S3 server that breaks what it is told to break, and counts it."""

import random
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from cluster.chaos.proxy import PassingHandler, serving
from tests.platform.stages.simulation import VirtualClock

HANG_SECONDS = 30.0


class FaultyProxy:
    """Passes requests on to `endpoint`, but for planned faults. State: the faults to come and those that happened.

    `served` has the methods of requests passed on; those of `ignores_conditions` lose their conditions.

    Faults: "reset" and "hang" before the request is passed on; "lost" after (it takes effect, its answer is lost);
    "cut" ends the answer in the middle, "flipped" changes its last byte; "" is none; anything else is an error code of
    S3, such as "InternalError", with a status.
    """

    def __init__(self, endpoint: str) -> None:
        self.planned: deque[tuple[str, str, int]] = deque()
        self.happened: list[str] = []
        self.served: list[str] = []
        self.ignores_conditions: frozenset[str] = frozenset()
        self.down_until = 0.0
        self._share, self._random = 0.0, random.Random(0)
        self._outage: tuple[re.Pattern[str], float] | None = None
        self.closing = threading.Event()
        proxy = self

        class Handler(_Handler):
            faults = proxy
            target = urlsplit(endpoint).netloc

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def plan(self, fault: str, times: int = 1, *, status: int = 500, method: str = "") -> None:
        """Break the next `times` requests (of a method) in this way."""
        self.planned.extend([(fault, method, status)] * times)

    def go_down(self, seconds: float) -> None:
        """From now on no request is served for so long."""
        self.down_until = time.monotonic() + seconds

    def go_down_by(self, clock: VirtualClock, seconds: float) -> None:
        """From now on no request is served until so much virtual time has passed."""
        self.go_down(1000.0)
        clock.after(seconds, lambda: setattr(self, "down_until", 0.0))

    def go_down_at(self, pattern: str, seconds: float) -> None:
        """Go down with the first request whose "METHOD path" matches."""
        self._outage = re.compile(pattern), seconds

    def fail_randomly(self, share: float, seed: int) -> None:
        """From now on answer this share of the requests with an internal error or "slow down", drawn from `seed`."""
        self._share, self._random = share, random.Random(seed)

    def next_fault(self, method: str, path: str) -> tuple[str, int] | None:
        if self._outage is not None and self._outage[0].search(f"{method} {path}"):
            self.go_down(self._outage[1])
            self._outage = None
        if time.monotonic() < self.down_until:
            self.happened.append("down")
            return "reset", 0
        if self.planned and self.planned[0][1] in ("", method):
            fault, _, status = self.planned.popleft()
            if not fault:
                return None
            self.happened.append(fault)
            return fault, status
        if self._random.random() < self._share:
            fault, status = self._random.choice([("InternalError", 500), ("SlowDown", 503)])
            self.happened.append(fault)
            return fault, status
        return None


@contextmanager
def faulty_proxy(endpoint: str) -> Iterator[FaultyProxy]:
    """A running proxy."""
    proxy = FaultyProxy(endpoint)
    with serving(proxy.server):
        try:
            yield proxy
        finally:
            proxy.closing.set()


class _Handler(PassingHandler):
    faults: FaultyProxy

    def _serve(self) -> None:
        body = self.body()
        fault = self.faults.next_fault(self.command, unquote(self.path))
        if fault is None:
            self.answer(*self._served(body))
            return
        kind, status = fault
        if kind == "hang":
            self.faults.closing.wait(HANG_SECONDS)
        if kind in ("reset", "hang"):
            self.reset()
        elif kind == "lost":
            self._served(body)
            self.reset()
        elif kind == "cut":
            self.answer(*self._served(body), cut=True)
        elif kind == "flipped":
            status, headers, content = self._served(body)
            self.answer(status, headers, content[:-1] + bytes([content[-1] ^ 1]))
        else:
            content = f"<Error><Code>{kind}</Code><Message>{kind}</Message></Error>".encode()
            self.answer(status, [("Content-Type", "application/xml")], content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _served(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.faults.served.append(self.command)
        if self.command in self.faults.ignores_conditions:
            self.dropped_headers = PassingHandler.dropped_headers | {"if-match", "if-none-match"}
        return self.passed_on(body)
