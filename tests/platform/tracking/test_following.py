"""A server that refuses, hangs or lies neither fails a run nor holds it up; what it missed is told once it is back."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviorlm_ray.console.screen import Lines, shown_on
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.tracking import tracking as tracking_module
from behaviorlm_ray.tracking.following import Entry, Follower
from behaviorlm_ray.tracking.tracked_run import TrackedRun, open_tracked
from behaviorlm_ray.tracking.tracking import tracked
from tests.platform.tracking.tracked_runs import copied, tell, tell_stages, told


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself tries once, for a second."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_not_there_is_told_at_once_and_at_the_end(
    finished: Run, closed_port: str, impatient: None, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path, mlflow=closed_port, registered_model="shop")
    said: list[str] = []
    with shown_on(Lines(said.append)):
        lines = tell(run).lines
    [warning] = lines
    assert warning.startswith(f"warning: tracking: not all was told to {closed_port}: ")
    assert warning.endswith("the same command tells what is missing")
    assert len([line for line in said if line.startswith("tracking: ")]) <= 1
    assert not (tmp_path / "runs" / "small" / "mlflow.json").exists()


def test_a_server_that_hangs_holds_up_no_run(
    finished: Run, silent_server: str, impatient: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what it tells once, and no longer than it may; MLflow alone would try for many minutes."""
    run = copied(finished, tmp_path, mlflow=silent_server, patience_seconds=0.5)
    waited: list[float] = []

    def settle(follower: Follower, seconds: float) -> str:
        waited.append(seconds)
        return settled(follower, seconds)

    settled = Follower.settle
    monkeypatch.setattr(Follower, "settle", settle)
    [warning] = tell(run).lines
    assert waited == [0.5] and "no answer within 0 s" in warning


def test_what_was_missed_is_told_when_the_server_is_back(
    finished: Run, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tries to reach it fail; a stage later it is there."""
    run = copied(finished, tmp_path, mlflow=database)
    is_back = threading.Event()

    def opened(run: Run, *, anew: bool) -> TrackedRun:
        if not is_back.is_set():
            raise ConnectionError("refused by http://ann:s3cr-t@host\nsecond line")
        return open_tracked(run, anew=anew)

    monkeypatch.setattr(tracking_module, "open_tracked", opened)
    said: list[str] = []
    with shown_on(Lines(said.append)), tracked(run) as tracking:
        follower = tracking._follower
        assert follower is not None and follower.settle(20) == "ConnectionError: refused by http://***@host"
        tell_stages(run, tracking)
        is_back.set()
    [line] = tracking.lines
    assert line.startswith("tracked: ")
    [told_once] = [line for line in said if line.startswith("tracking: ")]
    assert told_once.endswith("the run goes on, and this is tried again") and "s3cr-t" not in told_once
    found = told(run)
    assert found.status == "FINISHED" and len(found.histories["curve/one_stage/loss"]) == 3


def test_one_thing_that_fails_keeps_no_other_from_being_told(
    finished: Run, database: str, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path, mlflow=database)
    tries: list[str] = []

    def fails(tracked_run: TrackedRun) -> None:
        tries.append("fails")
        raise ValueError("too much")

    follower = Follower(lambda anew: open_tracked(run, anew=anew))
    follower.tell(Entry("bad", "1", fails))
    follower.tell(Entry("good", "1", lambda tracked_run: tries.append("good")))
    assert follower.end("FINISHED", 30) == "bad: ValueError: too much"
    assert tries.count("good") == 1 and tries.count("fails") >= 1
    assert told(run).status == "FINISHED"
