"""The service as a process: what is queued when it is told to end is answered; its log tells nothing of users."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from behaviorlm.predictor.rules import LogitAdjusted
from tests.behaviorlm.predictor.small_artifacts import history, write_artifact

ROOT = Path(__file__).resolve().parents[3]
SECRET = "a-secret-of-a-user"


def command(*keys: str) -> list[str]:
    return [sys.executable, "-m", "jobs.serve", *keys]


def environment() -> dict[str, str]:
    paths = f"{ROOT}{os.pathsep}{ROOT / 'platform'}"
    return {
        **{name: value for name, value in os.environ.items() if name != "BEHAVIORLM_TOKEN"},
        "PYTHONPATH": paths,
    }


@contextmanager
def service(log: Path, *keys: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    """A process that serves at a port of its own, and a client of it."""
    with log.open("wb") as told:
        process = subprocess.Popen(
            command(*keys, "--port=0"), cwd=ROOT, env=environment(), stdout=told, stderr=told
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        with httpx2.Client(base_url=found[1], timeout=60, limits=httpx2.Limits()) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_what_is_queued_is_answered_before_it_ends_and_its_log_names_nobody(tmp_path: Path) -> None:
    write_artifact(tmp_path / "one", tmp_path, "counts")
    served = tmp_path / "served"
    served.symlink_to(tmp_path / "one")
    log, kept = tmp_path / "log", tmp_path / "kept"
    keys = [
        f"--model={served}",
        "--batch.wait_ms=900",
        "--limits.body_bytes=50000",
        f"--feedback.folder={kept}",
    ]
    with service(log, *keys) as (process, client), ThreadPoolExecutor(10) as clients:
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/predict", content=b"x" * 50_001).status_code == 413
        feedback = {"events": [{"user": SECRET, **history(1)[0]}]}
        assert client.post("/v1/feedback", json=feedback).json()["stored"] == 1
        wrong = {"history": [{"behavior": SECRET, "time": SECRET}], "at": SECRET}
        assert client.post("/v1/predict", json=wrong, headers={"X-User": SECRET}).status_code == 422
        assert client.get(f"/{SECRET}?user={SECRET}").status_code == 404

        write_artifact(tmp_path / "two", tmp_path, "counts", LogitAdjusted(tau=1.0))
        served.unlink()
        served.symlink_to(tmp_path / "two")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while client.get("/v1/model").json()["rule"] != "logit_adjusted":
            assert time.monotonic() < deadline
            time.sleep(0.05)

        body = {"history": [{"behavior": SECRET, "user": SECRET}]}
        asked = [clients.submit(client.post, "/v1/predict", json=body) for _ in range(8)]
        while "behaviorlm_queue_histories 8.0" not in client.get("/metrics").text:
            assert not any(each.done() for each in asked)
        process.send_signal(signal.SIGTERM)
        assert {each.result().status_code for each in asked} == {200}
        assert process.wait(30) == 0
        with pytest.raises(httpx2.ConnectError):
            client.get("/healthz")
    assert SECRET not in log.read_text() and "Traceback" not in log.read_text()
    assert SECRET in next(kept.iterdir()).read_text()


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path: Path) -> None:
    write_artifact(tmp_path / "one", tmp_path, "counts")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            command(f"--model={tmp_path / 'one'}", f"--port={port}"),
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 2
    assert f"the service cannot listen at 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr
