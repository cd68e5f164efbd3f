"""The notice that EC2 gives a spot instance, asked of a server that answers as the metadata service does.

`ray` is a script that keeps what it is called with: the true one drains a node of a cluster.
"""

import functools
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from behaviorlm_ray.cluster import spot_notice
from behaviorlm_ray.cluster.spot_notice import drain_this_node, notice, watch

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
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_node_is_drained_once_with_the_time_that_is_left(metadata: str) -> None:
    drained: list[int] = []

    def drain(seconds_left: int) -> bool:
        drained.append(seconds_left)
        return True

    watcher = threading.Thread(target=watch, args=(drain, metadata, 0.05))
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


def ray_script(folder: Path, failures: int, failing: str = "exit 1") -> Path:
    """A `ray` that appends its arguments to calls.txt and fails so often first."""
    script = folder / "ray"
    calls = folder / "calls.txt"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> "{calls}"\nif [ $(wc -l < "{calls}") -le {failures} ]; then {failing}; fi\n'
    )
    script.chmod(0o755)
    return script


def calls_of(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "calls.txt").read_text().splitlines()]


def test_a_call_that_fails_is_repeated_until_ray_takes_it(metadata: str, tmp_path: Path) -> None:
    Metadata.ends = datetime.now(UTC) + timedelta(seconds=110)
    script = ray_script(tmp_path, failures=2)
    assert watch(functools.partial(drain_this_node, ray=script), metadata, 0.05)
    calls = calls_of(tmp_path)
    assert len(calls) == 3
    for call in calls:
        assert call[:3] == ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        assert call[-2] == "--deadline-remaining-seconds"
        assert 90 <= int(call[-1]) <= 110


def test_it_gives_up_when_the_machine_goes(metadata: str, tmp_path: Path) -> None:
    Metadata.ends = datetime.now(UTC) + timedelta(seconds=2)
    script = ray_script(tmp_path, failures=10_000)
    assert not watch(functools.partial(drain_this_node, ray=script), metadata, 0.2)
    assert len(calls_of(tmp_path)) > 1
    assert datetime.now(UTC) < Metadata.ends + timedelta(seconds=2)


def test_a_call_that_hangs_or_cannot_start_is_a_failed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spot_notice, "CALL_SECONDS", 0.5)
    script = ray_script(tmp_path, failures=1, failing="exec sleep 60")
    assert not drain_this_node(100, script)
    assert "not drained, 100 s left" in capfd.readouterr().err
    assert drain_this_node(99, script)
    assert not drain_this_node(98, tmp_path / "absent")


def test_the_real_command_knows_every_option() -> None:
    """Ray does not promise to keep this command: it is hidden from its help."""
    from click.testing import CliRunner
    from ray.scripts.scripts import cli

    arguments = ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back"]
    arguments += ["--deadline-remaining-seconds", "100", "--help"]
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 0, answer.output
    for option in (one for one in arguments if one.startswith("--")):
        assert option in answer.output
    assert "DRAIN_NODE_REASON_PREEMPTION" in answer.output
