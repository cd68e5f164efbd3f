"""The notice that EC2 gives a spot instance, asked of a server that answers as the metadata service does."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from behaviorlm_ray.spot_notice import notice, watch

TOKEN = "a-session-token"


class Metadata(BaseHTTPRequestHandler):
    """IMDSv2: nothing without a token; 404 for the notice until there is one."""

    ends: datetime | None = None
    asked = 0

    def do_PUT(self) -> None:
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer(200 if self.path == "/latest/api/token" and seconds else 400, TOKEN)

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.ends is None:
            self._answer(404, "")
        else:
            told = {"action": "terminate", "time": self.ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
            self._answer(200, json.dumps(told))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.ends, Metadata.asked = None, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_node_is_drained_once_with_the_time_that_is_left(metadata: str) -> None:
    drained: list[int] = []
    watcher = threading.Thread(target=watch, args=(drained.append, metadata, 0.05))
    watcher.start()
    while Metadata.asked < 3:
        time.sleep(0.01)
    assert not drained
    Metadata.ends = datetime.now(UTC) + timedelta(seconds=110)
    watcher.join(20)
    assert not watcher.is_alive()
    assert len(drained) == 1 and 100 <= drained[0] <= 110


def test_no_notice_where_nobody_answers(metadata: str) -> None:
    assert notice(metadata) is None
    assert notice("http://127.0.0.1:9") is None
