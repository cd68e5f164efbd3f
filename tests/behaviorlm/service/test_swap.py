"""Another model takes over without a dropped request; one that cannot be opened takes nothing over."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from behaviorlm.config import load_settings
from behaviorlm.errors import DataError
from behaviorlm.predictor.artifact import Artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.predictor.rules import LogitAdjusted
from behaviorlm.service.app import build_app
from behaviorlm.service.serving import Service, open_model
from behaviorlm.service.settings import ServeSettings
from tests.behaviorlm.predictor.small_artifacts import history, write_artifact
from tests.behaviorlm.service.test_answers import agree, expected, measured
from tests.behaviorlm.service.waiting_model import waiting


def serving(folder: Path, models: list[BehaviorModel]) -> tuple[TestClient, Service]:
    """A service that opens one model after the other."""
    left = iter(models)
    settings = load_settings(ServeSettings, None, [f"model={folder}", "token.environment=NONE"])
    app = build_app(settings, lambda: next(left))
    return TestClient(app, base_url="http://127.0.0.1"), app.state.service


def other_than(model: BehaviorModel) -> BehaviorModel:
    """A model that ranks by another rule."""
    told = {**model.artifact.model_dump(), "decision": LogitAdjusted(tau=2.0)}
    return BehaviorModel(replace(model.parts, artifact=Artifact.model_validate(told)))


def swapped(client: TestClient, service: Service) -> bool:
    assert client.portal is not None
    return client.portal.call(service.open_again)


def test_what_waits_is_answered_by_the_model_that_it_came_to(
    folders: dict[str, Path], models: dict[str, BehaviorModel]
) -> None:
    old, new = waiting(models["counts"]), other_than(models["counts"])
    body: dict[str, Any] = {"history": history(5)}
    before, after = (expected(model, [Request(history(5))]) for model in (models["counts"], new))
    assert before != after
    client, service = serving(folders["counts"], [old, new])
    with client, ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(client.post, "/v1/predict", json=body)]
        assert old.began.wait(20)  # the first is being answered, so the others wait
        asked += [clients.submit(client.post, "/v1/predict", json=body) for _ in range(3)]
        while measured(client, "behaviorlm_queue_histories") < 3:
            assert not any(each.done() for each in asked)
        assert swapped(client, service)
        late = clients.submit(client.post, "/v1/predict", json=body)
        old.may.set()
        for each in asked:
            agree(each.result().json()["predictions"], before)
        agree(late.result().json()["predictions"], after)
        assert late.result().json()["model"] == client.get("/v1/model").json()["fingerprint"]


def test_swaps_under_load_lose_nothing(folders: dict[str, Path], models: dict[str, BehaviorModel]) -> None:
    first, second = models["counts"], other_than(models["counts"])
    answers = {
        model.artifact.fingerprint: expected(model, [Request(history(5))]) for model in (first, second)
    }
    client, service = serving(folders["counts"], [first, second] * 4)
    with client, ThreadPoolExecutor(6) as clients:
        asked = [clients.submit(client.post, "/v1/predict", json={"history": history(5)}) for _ in range(60)]
        assert all(swapped(client, service) for _ in range(7))
        found = [each.result() for each in asked]
    assert {answer.status_code for answer in found} == {200}
    for answer in found:
        agree(answer.json()["predictions"], answers[answer.json()["model"]])


def test_a_folder_that_became_unreadable_leaves_the_model_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEHAVIORLM_TOKEN", raising=False)
    write_artifact(tmp_path / "one", tmp_path, "counts")
    served = tmp_path / "served"
    served.symlink_to(tmp_path / "one")
    app = build_app(load_settings(ServeSettings, None, [f"model={served}"]))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        before = client.get("/v1/model").json()
        (tmp_path / "one" / "counts.arrow").write_bytes(b"")
        assert not swapped(client, app.state.service)
        assert client.get("/v1/model").json() == before
        assert client.post("/v1/predict", json={}).status_code == 200
        write_artifact(tmp_path / "two", tmp_path, "counts", LogitAdjusted(tau=1.0))
        served.unlink()
        served.symlink_to(tmp_path / "two")
        assert swapped(client, app.state.service)
        assert client.get("/v1/model").json()["rule"] == "logit_adjusted"
        outcomes = [
            line for line in client.get("/metrics").text.splitlines() if "model_openings_total{" in line
        ]
    assert [line.rpartition(" ")[2] for line in sorted(outcomes)] == ["1.0", "2.0"]  # failed, opened


def test_a_damaged_model_is_not_served_at_all(tmp_path: Path) -> None:
    write_artifact(tmp_path / "one", tmp_path, "counts")
    (tmp_path / "one" / "counts.arrow").unlink()
    with pytest.raises(DataError, match=r"counts\.arrow is missing"):
        open_model(load_settings(ServeSettings, None, [f"model={tmp_path / 'one'}"]))
