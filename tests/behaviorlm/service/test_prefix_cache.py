"""What is kept of users between requests: told in numbers, used within a tenant, off unless told, named nowhere."""

import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import history
from tests.behaviorlm.service.conftest import Serve
from tests.behaviorlm.service.test_answers import agree, expected, measured, posted

KEY = "a-secret-of-a-user"


def keeping(folders: dict[str, Path]) -> BehaviorModel:
    return BehaviorModel.load(folders["fused"], device="cpu", prefix_bytes=1 << 24)


def used(client: TestClient) -> tuple[float, float]:
    """Histories that were found, and all with a key."""
    text = client.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("behaviorlm_prefix_histories_total")]
    found = {line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    return found.get("hit", 0.0), sum(found.values())


def test_a_key_changes_no_answer_and_is_told_nowhere(
    serve: Serve,
    folders: dict[str, Path],
    models: dict[str, BehaviorModel],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = serve("fused", model=keeping(folders))
    with caplog.at_level(logging.DEBUG):
        for number in range(1, 6):
            body: dict[str, Any] = {"requests": [{"history": history(6)[:number], "user_key": KEY}, {}]}
            requests = [Request(history(6)[:number]), Request()]
            agree(posted(client, body), expected(models["fused"], requests))
        refused = client.post("/v1/predict", json={"user_key": [KEY]})
        long = client.post("/v1/predict", json={"user_key": KEY * 100})
    assert used(client) == (3, 5)  # of two events the first is less than half
    assert measured(client, "behaviorlm_prefix_bytes") > 0
    assert refused.status_code == long.status_code == 422 and refused.json()["key"] == "user_key"
    told = [client.get("/metrics").text, caplog.text, refused.text, long.text]
    assert not any(KEY in text for text in told)


def test_tenants_share_nothing_and_who_names_none_or_two_keeps_nothing(
    serve: Serve, folders: dict[str, Path]
) -> None:
    client = serve("fused", "prefix_cache.tenant_header=X-Tenant", model=keeping(folders))
    body = {"history": history(4), "user_key": KEY}

    def ask(*tenants: str) -> tuple[float, float]:
        headers = [("X-Tenant", tenant) for tenant in tenants]
        assert client.post("/v1/predict", json=body, headers=headers).status_code == 200
        return used(client)

    assert ask("one") == (0, 1)
    assert ask("one") == (1, 2)
    assert ask("two") == (1, 3)
    assert ask() == ask("one", "two") == (1, 3)
    assert ask("two") == (2, 4)


def test_nothing_is_kept_unless_told(serve: Serve) -> None:
    client = serve("fused")
    posted(client, {"history": history(4), "user_key": KEY})
    assert "behaviorlm_prefix" not in client.get("/metrics").text
