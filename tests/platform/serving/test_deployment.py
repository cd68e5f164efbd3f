"""The service under Ray Serve: what is missing is told in a line; where it is installed, it answers as the app does."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.testclient import TestClient

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm.service.app import build_app
from behaviorlm.service.settings import ServeSettings
from behaviorlm_ray.serving import deployment
from tests.behaviorlm.predictor.small_artifacts import write_artifact

BODY = {"history": [{"behavior": "door"}], "k": 3}

try:
    from ray import serve as _  # noqa: F401

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False


@pytest.mark.skipif(IS_INSTALLED, reason="Ray Serve is installed")
def test_a_missing_ray_serve_is_told_in_a_line_with_what_to_install() -> None:
    with pytest.raises(
        ConfigError, match=r"^Ray Serve is not installed here \(\w+\): pip install 'ray\[serve\].*'$"
    ):
        deployment.bound(load_settings(ServeSettings, None, ["model=x"]))


def test_a_misspelt_argument_of_a_rayservice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"modl: unknown key .* did you mean 'model'"):
        deployment.application({"modl": "x"})


def test_a_replica_without_the_token_that_the_service_was_started_with_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(tmp_path / "one", tmp_path, "counts")
    settings = load_settings(ServeSettings, None, [f"model={tmp_path / 'one'}", "token.environment=MINE"])
    monkeypatch.delenv("MINE", raising=False)
    assert deployment.replica_app(settings, has_token=False)
    with pytest.raises(ConfigError, match="MINE is not set on this node"):
        deployment.replica_app(settings, has_token=True)
    monkeypatch.setenv("MINE", "0123456789abcdef")
    assert deployment.replica_app(settings, has_token=True)


@pytest.mark.ray
@pytest.mark.skipif(not IS_INSTALLED, reason="ray[serve] is not installed")
def test_replicas_answer_as_the_app_does_and_killed_ones_lose_no_request_beyond_those_to_be_tried_again(
    ray_cluster: Any, tmp_path: Path
) -> None:
    from ray import serve

    write_artifact(tmp_path / "one", tmp_path, "counts")
    keys: dict[str, Any] = {"model": str(tmp_path / "one"), "port": 8798}
    keys["ray_serve"] = {"cpus": 0.5, "replicas": 2}
    app = build_app(load_settings(ServeSettings, None, data=keys))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        right = client.post("/v1/predict", json=BODY).json()
    seen: Counter[int] = Counter()
    try:
        serve.start(http_options={"port": keys["port"]})
        serve.run(deployment.application(keys), name="test")
        with ThreadPoolExecutor(4) as clients:
            until = time.monotonic() + 11
            asking = [clients.submit(ask_until, keys["port"], until, right, seen) for _ in range(4)]
            for _ in range(2):
                time.sleep(3)
                replica_processes()[0].kill()
            for each in asking:
                each.result()
    finally:
        serve.shutdown()
    assert seen.keys() <= {200, 500, 503} and seen[500] <= 8 and seen[200] > 20  # 4 at a time, 2 kills


def ask_until(port: int, until: float, right: Any, seen: Counter[int]) -> None:
    """Ask again and again; every answer must be the right one."""
    import httpx2

    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        while time.monotonic() < until:
            answer = client.post("/v1/predict", json=BODY)
            seen[answer.status_code] += 1
            assert answer.status_code != 200 or answer.json() == right
            # Ray's proxy, and not the app, says so where a replica is killed that was answering
            assert answer.status_code != 500 or answer.text == "Internal Server Error"


def replica_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [process for process in children if "ServeReplica" in " ".join(process.cmdline())]
