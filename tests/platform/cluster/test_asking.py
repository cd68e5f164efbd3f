"""What listens at a port is asked whether it is a Ray head, by a process that can be ended: soon, and by Ctrl-C."""

import os
import pty
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from behaviorlm.errors import ClusterError
from behaviorlm_ray.cluster import asking
from behaviorlm_ray.cluster.asking import check_served
from behaviorlm_ray.cluster.connection import start_problem


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def website() -> Iterator[str]:
    """The address of something that speaks HTTP, as a dashboard does."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_silent_is_given_up_and_told(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASKING_SECONDS", 2.0)
    with pytest.raises(
        ClusterError, match=rf"RAY_ADDRESS={silent}: what listens there.*no answer for 2 s.*8265"
    ):
        check_served(silent)


def test_what_is_no_head_is_told(website: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASKING_SECONDS", 4.0)
    with pytest.raises(
        ClusterError, match=r"does not answer as the head of a Ray cluster \(.+\)\. It is the port"
    ):
        check_served(website)


def test_patience_with_a_head_is_less_than_a_minute() -> None:
    assert asking.ASKING_SECONDS < 50


@pytest.mark.parametrize(
    ("error", "address", "parts"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1"),
            "10.0.0.5:6379",
            ("the cluster at 10.0.0.5:6379 and this job differ", "Ray: 2.9.0 Python: 3.10.1", "docs/cluster.md"),
        ),
        (OSError(28, "No space left on device"), "local", ("a disk is full", "RAY_TMPDIR")),
        (ValueError("The configured object store size exceeds /dev/shm size."), "local", ("--shm-size",)),
        (ConnectionError("no port\nis free"), "local", ("no port is free", "session_latest/logs", "ulimit")),
        (KeyError(), "local", ("KeyError",)),
        (ConnectionError("gone"), "10.0.0.5:6379", ("10.0.0.5:6379 cannot be used (gone)", "ray status")),
    ],
)  # fmt: skip
def test_what_ray_says_is_one_line_with_a_remedy(
    error: Exception, address: str, parts: tuple[str, ...]
) -> None:
    told = start_problem(error, address)
    assert "\n" not in told
    assert all(part in told for part in parts), told


JOB = """
import sys
from behaviorlm.config import Settings
from behaviorlm_ray.cluster.connection import connect
from behaviorlm_ray.console.command_line import run_job

print("begun", flush=True)
sys.exit(run_job(Settings, lambda settings: connect(), [], plan=print))
"""


def test_ctrl_c_ends_a_job_that_waits_for_a_head(silent: str) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # what runs in the background ignores it, and so would its children
        path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
        environment = {**os.environ, "RAY_ADDRESS": silent, "PYTHONPATH": path}
        os.execve(sys.executable, [sys.executable, "-c", JOB], environment)
    said = b""
    ended = None
    try:
        said += _read_until(terminal, b"begun", 60)
        time.sleep(1.5)
        os.write(terminal, b"\x03")
        pressed = time.monotonic()
        while ended is None and time.monotonic() - pressed < 20:
            said += _read_until(terminal, b"again to continue", 0.2)
            process, status = os.waitpid(child, os.WNOHANG)
            ended = os.waitstatus_to_exitcode(status) if process else None
    finally:
        if ended is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
    assert ended == 130, said.decode()
    assert b"interrupted" in said and b"Traceback" not in said


def _read_until(terminal: int, mark: bytes, seconds: float) -> bytes:
    """What the terminal shows until the mark is there, or so many seconds are over."""
    found, until = b"", time.monotonic() + seconds
    while mark not in found and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                found += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    return found
