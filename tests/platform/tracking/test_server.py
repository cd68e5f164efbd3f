"""A real server of MLflow on SQLite: a run told over HTTP through its death, and a predictor loaded elsewhere."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.tracking.registering import tell_results
from behaviorlm_ray.tracking.tracking import tracked
from tests.platform.tracking.tracked_runs import client_of, copied, record_of, tell, tell_stages

pytestmark = pytest.mark.slow

LOADED_ELSEWHERE = """
import json, sys
import mlflow
opened = mlflow.pyfunc.load_model("models:/shop/1", model_config={"device": "cpu"})
[example] = opened.input_example
found = opened.predict([example, {"history": []}], params={"k": 8}).to_dict("records")
brought = sorted({name.partition(".")[0] for name in sys.modules} & {"ray", "deepspeed", "behaviorlm_ray"})
print(json.dumps({"example": example, "found": found, "brought": brought}))
"""


class Server:
    """A server on one port and one database, started and killed. State: the process."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "--backend-store-uri": f"sqlite:///{self._folder / 'mlflow.db'}",
            "--artifacts-destination": str(self._folder / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    *(word for pair in options.items() for word in pair),
                ],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(240):
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            try:
                with closing(urllib.request.urlopen(f"{self.address}/health", timeout=5)):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError((self._folder / "server.log").read_text())

    def kill(self) -> None:
        """End it and its workers, at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    try:
        yield one
    finally:
        one.kill()


def test_a_run_outlives_the_server_and_its_predictor_is_loaded_elsewhere(
    server: Server, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = copied(finished, tmp_path, mlflow=server.address, registered_model="shop", patience_seconds=20)
    server.start()
    with tracked(run) as tracking:
        follower = tracking._follower
        assert follower is not None and follower.settle(60) == ""
        server.kill()
        tell_stages(run, tracking)
        tell_results(run, tracking)
    link, warning = tracking.lines
    assert link == f"tracked: {record_of(run).shown_at}" and server.address in link
    assert warning.startswith(f"warning: tracking: not all was told to {server.address}: ")
    begun = record_of(run)

    server.start()
    assert len(tell(run).lines) == 1 and record_of(run).run_id == begun.run_id
    client = client_of(run)
    found = client.get_run(begun.run_id)
    assert found.info.status == "FINISHED"
    for key in ("curve/one_stage/loss", "curve/one_stage/learning_rate"):
        assert [metric.step for metric in client.get_metric_history(begun.run_id, key)] == [1, 2, 3]
    results = json.loads(storage.read_text(run.output_folder / "results.json"))
    assert (
        found.data.metrics["test/one_stage/tail/accuracy"]
        == results["models"]["one_stage"]["tail"]["accuracy"]["value"]
    )
    path = client.download_artifacts(begun.run_id, "report.html", str(tmp_path))
    assert Path(path).read_bytes() == storage.read_bytes(run.output_folder / "report.html")

    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.address}
    printed = subprocess.run(
        [sys.executable, "-c", LOADED_ELSEWHERE], env=environment, capture_output=True, text=True, check=True
    ).stdout
    loaded = json.loads(printed.splitlines()[-1])
    assert loaded["brought"] == []
    place = client.download_artifacts(begun.run_id, "", str(tmp_path / "files"))
    assert "results.json" in os.listdir(place)
    import mlflow

    mlflow.set_tracking_uri(server.address)
    try:
        folder = Path(mlflow.artifacts.download_artifacts("models:/shop/1"))
    finally:
        mlflow.set_tracking_uri(None)
    model = BehaviorModel.load(folder / "artifacts" / "predictor", device="cpu")
    expected = model.predict_many([Request(**loaded["example"]), Request([])], k=8)
    for answer, right in zip(loaded["found"], expected, strict=True):
        assert answer["behavior"] == right.behavior and len(answer["answers"]) == 8
        probabilities = [one.probability for one in right.answers]
        assert [one["probability"] for one in answer["answers"]] == pytest.approx(probabilities, rel=1e-9)
