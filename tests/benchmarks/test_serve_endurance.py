"""What the endurance run counts as wrong: seen when it is put there; and half a minute of it."""

import copy
from typing import Any

import pytest

from benchmarks.serve_endurance import Case, Tally, difference, main

CASE = Case({}, {"one": {"door": 0.6, "camera": 0.3, "alarm": 0.1}, "two": {"camera": 0.6, "door": 0.4}})


def answer(**changed: float) -> dict[str, Any]:
    right = {**CASE.right["one"], **changed}
    ranked = sorted(right, key=lambda name: -right[name])
    return {
        "model": "one",
        "predictions": [{"answers": [{"behavior": name, "probability": right[name]} for name in ranked]}],
    }


def test_an_answer_that_is_right_is_none_that_is_wrong() -> None:
    assert difference(CASE, answer()) == []
    assert difference(CASE, answer(door=0.600001)) == []


def test_each_way_to_be_wrong_is_seen() -> None:
    assert difference(CASE, answer(door=0.6001)) == ["a probability by 1.0e-04"]
    assert "nobody serves" in difference(CASE, {**answer(), "model": "three"})[0]
    assert difference(CASE, {**answer(), "model": "two"}) == ["other behaviors"]
    fewer = copy.deepcopy(answer())
    fewer["predictions"][0]["answers"].pop()
    assert difference(CASE, fewer) == ["other behaviors"]
    turned = copy.deepcopy(answer())
    turned["predictions"][0]["answers"].reverse()
    assert difference(CASE, turned) == ["'alarm', not 'door'"]


@pytest.mark.parametrize(
    ("failure", "is_allowed"),
    [
        ("a kill: 503", True),
        ("a kill: ConnectionResetError", True),
        ("an end: ConnectionRefusedError", True),
        ("a kill: 500", False),
        ("another model: 503", False),
        ("another model: ConnectionResetError", False),
        ("nothing: 503", False),
    ],
)
def test_what_may_be_tried_again_is_what_a_kill_does(failure: str, is_allowed: bool) -> None:
    tally = Tally(answered=1)
    tally.failures[failure] = 2
    assert bool(tally.problems()) != is_allowed


def test_a_lost_request_is_told() -> None:
    assert "1 requests were not answered" in Tally(answered=9, lost=1).problems()[0]


@pytest.mark.slow
def test_half_a_minute_of_it() -> None:
    assert main(["--minutes", "0.7", "--clients", "3", "--pause", "3"]) == 0
