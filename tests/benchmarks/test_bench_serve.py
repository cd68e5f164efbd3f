"""The peers of the service compute what it computes, and the table holds what was measured."""

from pathlib import Path
from typing import Any

import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.prompts.config import PromptConfig
from benchmarks.bench_serve import CACHED, OURS, table
from benchmarks.serve_peers import KINDS, Scorer
from benchmarks.served_model import bodies, write_default


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("bench") / "model"
    write_default(place, PromptConfig(max_events=6, stride=3))
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_finds_the_probabilities_of_the_predictor(folder: Path, kind: str) -> None:
    model, scorer = BehaviorModel.load(folder, device="cpu"), Scorer(kind, folder)
    of_user = bodies(model.artifact.names, 0, 9)
    for body in (next(of_user) for _ in range(12)):
        request = Request(body["history"], None, body["at"], body["earlier_events"])
        answers = model.predict_many([request], k=len(model.artifact.names))[0].answers
        found = scorer.probabilities(body)
        assert [found[answer.id] for answer in answers if answer.id is not None] == pytest.approx(
            [answer.probability for answer in answers], abs=1e-5
        )


def test_a_client_tells_what_he_knows_and_how_much_was_before() -> None:
    of_user = bodies(("door", "camera"), 3, 4)
    asked = [next(of_user) for _ in range(7)]
    assert [len(body["history"]) for body in asked] == [1, 2, 3, 4, 4, 4, 4]
    assert [body["earlier_events"] for body in asked] == [0, 0, 0, 0, 1, 2, 3]
    assert asked[6]["history"][:-1] == asked[5]["history"][1:]


def turn(server: str, round_: int, per_second: float, **cache: float) -> dict[str, Any]:
    told = {key.replace("_", " "): number for key, number in cache.items()}
    return {
        "server": server,
        "clients": 8,
        "round": round_,
        "per_second": per_second,
        "cpu": 1 / per_second,
        "p50": 0.01,
        "p99": 0.02,
        "cache": told,
    }


def test_ratios_are_taken_within_a_round_and_shares_over_all() -> None:
    turns = [turn(OURS, 0, 100), turn(OURS, 1, 50), turn(OURS, 2, 10)]
    turns += [
        turn(CACHED, 0, 150, tokens_hit=3, tokens_miss=1),
        turn(CACHED, 1, 100, tokens_hit=0, tokens_miss=4),
    ]
    turns += [turn(CACHED, 2, 30, histories_hit=1, histories_miss=1)]
    lines = table(turns)
    assert lines[2] == f"| 8 | {OURS} | 50.0 | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | 10 | 20 | - | - |"
    assert (
        lines[3]
        == f"| 8 | {CACHED} | 100.0 | 2.00 (1.50 to 3.00) | 0.50 (0.33 to 0.67) | 10 | 20 | 0.50 | 0.38 |"
    )
