"""What is answered over HTTP is what `BehaviorModel` answers, alone and among others."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.service.bodies import PredictAnswer
from tests.behaviorlm.predictor.small_artifacts import NAMES, history
from tests.behaviorlm.service.conftest import Serve

AT = "2024-03-02T09:00:00Z"
CHOICES: list[dict[str, Any]] = [
    {},
    {"k": 2, "explain": True},
    {"allow": ["door", "alarm", "camera"], "min_probability": 0.9},
    {"deny": ["lamp on"], "k": 100},
]


def expected(model: BehaviorModel, requests: list[Request], **choices: Any) -> list[dict[str, Any]]:
    """The answers of the API as JSON has them."""
    found = model.predict_many(requests, **choices)
    return [{"behavior": each.behavior, **json.loads(each.model_dump_json())} for each in found]


def agree(one: Any, other: Any) -> None:
    """Equal; numbers of a network to 1e-5, for a batch of another shape rounds otherwise."""
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        for key in other:
            agree(one[key], other[key])
    elif isinstance(other, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            agree(first, second)
    else:
        assert one == (pytest.approx(other, abs=1e-5) if isinstance(other, float) else other)


def posted(client: TestClient, body: dict[str, Any]) -> Any:
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def measured(client: TestClient, name: str) -> float:
    """A measure without labels, or the sum over them."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(one.value for family in families for one in family.samples if one.name == name)


@pytest.mark.parametrize("kind", ["counts", "fused"])
@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_one_and_many_are_answered_as_the_api_answers(
    serve: Serve, models: dict[str, BehaviorModel], kind: str, choices: dict[str, Any]
) -> None:
    client, model = serve(kind), models[kind]
    one = {"history": history(7), "at": AT, "context": {"room": "hall"}, "earlier_events": 3}
    [alone] = posted(client, {**one, **choices})
    agree([alone], expected(model, [Request(history(7), {"room": "hall"}, AT, 3)], **choices))
    many = [one, {"history": []}, {}, {"history": history(3, seed=4)}]
    requests = [
        Request(history(7), {"room": "hall"}, AT, 3),
        Request([]),
        Request(),
        Request(history(3, seed=4)),
    ]
    agree(posted(client, {"requests": many, **choices}), expected(model, requests, **choices))


def test_new_names_are_scored_as_the_api_scores_them(serve: Serve, models: dict[str, BehaviorModel]) -> None:
    asked = {"new_names": ["feed the cat"], "k": 9}
    found = posted(serve("fused"), {"history": history(4), **asked})
    agree(found, expected(models["fused"], [Request(history(4))], **asked))
    assert {"feed the cat", *NAMES} == {answer["behavior"] for answer in found[0]["answers"]}


@pytest.mark.parametrize("kind", ["counts", "fused"])
def test_what_comes_together_is_answered_together_and_each_as_if_alone(
    serve: Serve, models: dict[str, BehaviorModel], kind: str
) -> None:
    client = serve(kind, "batch.wait_ms=60", "batch.histories=8")
    numbers = range(24)

    def asked(number: int) -> Any:
        body = {"history": history(number % 9, seed=number), "at": AT, **CHOICES[number % len(CHOICES)]}
        if number % 6 == 5:
            body["deny"] = ["no such behavior"]  # refused, and nobody else with it
        return client.post("/v1/predict", json=body)

    with ThreadPoolExecutor(len(numbers)) as clients:
        answered = list(clients.map(asked, numbers))
    for number, answer in zip(numbers, answered, strict=True):
        if number % 6 == 5:
            assert answer.status_code == 422 and "no such behavior" in answer.json()["error"]
            continue
        request = Request(history(number % 9, seed=number), None, AT)
        agree(
            answer.json()["predictions"],
            expected(models[kind], [request], **CHOICES[number % len(CHOICES)]),
        )
    batches = measured(client, "behaviorlm_batch_histories_count")
    assert 3 <= batches < 16
    assert measured(client, "behaviorlm_batch_histories_sum") == 24
    assert measured(client, "behaviorlm_predictions_total") == 20


def test_the_description_of_the_api_holds_examples_that_are_answered(serve: Serve) -> None:
    client = serve("counts", "token.environment=NONE")
    described = client.get("/openapi.json").json()
    assert described["paths"].keys() == {
        "/v1/predict",
        "/v1/feedback",
        "/v1/model",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    examples = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    assert len(examples) == 3
    for example in examples.values():
        answer = client.post("/v1/predict", json=example["value"]).json()
        properties = described["components"]["schemas"]["ServedPrediction"]["properties"]
        assert answer.keys() == PredictAnswer.model_fields.keys()
        for prediction in answer["predictions"]:
            assert prediction.keys() == properties.keys()
            assert not any("were not used" in warning for warning in prediction["warnings"])


def test_the_model_says_what_a_client_must_know(serve: Serve, models: dict[str, BehaviorModel]) -> None:
    client = serve("counts", "limits.k=7")
    told = client.get("/v1/model").json()
    assert told["fingerprint"] == models["counts"].artifact.fingerprint
    assert [behavior["name"] for behavior in told["behaviors"]] == list(NAMES)
    assert told["columns"]["behavior"] == "behavior" and told["context"] == ["room"]
    assert told["limits"]["k"] == 7 and not told["takes_feedback"] and not told["wants_whole_history"]
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
