"""The verdict: what validation chose, its endpoint, and the best counting baseline beside it."""

from typing import Any

import pytest

from behaviorlm_ray.evaluation.recommendation import NOTHING_TO_CHOOSE_BY, Option, options, recommended
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION
from behaviorlm_ray.report.verdict import verdict


def measured(anchor: float | None, tail: float | None) -> dict[str, Any]:
    def of(value: float | None) -> dict[str, float | None]:
        return {"value": value, "low": None if value is None else value - 0.1, "high": value}

    return {"anchor": {"accuracy": of(anchor)}, "tail": {"macro_recall_at_least_10": of(tail)}}


SURELY = {"value": 0.05, "low": 0.01, "high": 0.1}
BY_VALIDATION = {"bigram": {"plain": 0.1}, "markov_order_3": {"plain": 0.2}}


@pytest.fixture
def results() -> dict[str, Any]:
    models = {"bigram": measured(0.4, 0.1), "markov_order_3": measured(0.3, 0.3)}
    models |= {
        "one_stage": measured(0.9, 0.9),
        "ab_tuned": measured(0.5, 0.2),
        "ab_tuned+adjusted": measured(0.4, 0.5),
    }
    return {
        "models": models,
        "samples": {"all": 70, "groups": 9, "validation": 40},
        "validation": {"one_stage": {}, "ab_tuned": {}},
        "recommended": recommended(
            [
                *options("one_stage", {"plain": 0.1, "adjusted": 0.2}),
                *options("ab_tuned", {"plain": 0.3}),
                Option("ab_tuned", "adjusted", "ab_tuned+adjusted", 0.35, SURELY),
            ]
        ),
    }


def test_validation_chooses_and_the_best_counting_stands_beside_it(results: dict[str, Any]) -> None:
    assert verdict(results, BY_VALIDATION) == [
        "ab_tuned+adjusted is recommended: 0.350 on validation, the mean of anchor accuracy and tail macro recall; "
        "validation is sure that it is ahead of ab_tuned, the safe choice: +0.050 [+0.010, +0.100]",
        "on test: anchor accuracy 0.400 [0.300, 0.400], tail macro recall 0.500 [0.400, 0.500] "
        "(70 samples of 9 groups)",
        "counting alone, markov_order_3: anchor accuracy 0.300 [0.200, 0.300], tail macro recall 0.300 [0.200, 0.300]; "
        "the mean of both is 0.150 lower",
    ]


def test_nothing_is_claimed_where_validation_or_the_tail_is_missing(results: dict[str, Any]) -> None:
    assert verdict(
        results | {"recommended": recommended([Option("ab_tuned", "plain", "ab_tuned", None)])}, {}
    ) == [f"no model is ahead: {NOTHING_TO_CHOOSE_BY}"]
    empty = results | {"samples": results["samples"] | {"validation": 0}}
    assert verdict(empty, {}) == [f"no model is ahead: {WITHOUT_VALIDATION}"]
    results["models"]["ab_tuned+adjusted"] = measured(0.5, None)
    told = verdict(results, {})
    assert len(told) == 2 and "tail macro recall none" in told[1]


def test_counting_that_wins_is_held_against_the_best_model(results: dict[str, Any]) -> None:
    results["models"]["counts+bayes"] = measured(0.5, 0.6)
    results["recommended"] = recommended([Option("counts", "bayes", "counts+bayes", 0.4)])
    told = verdict(results, {"ab_tuned": {"plain": 0.3, "adjusted": 0.35}})
    assert told[0].startswith("counts+bayes is recommended: 0.400 on validation")
    assert told[2].startswith("the best model, ab_tuned+adjusted:")
    assert verdict(results, {})[2].startswith("the best model, one_stage:")


def test_validation_chooses_the_rival_even_where_another_is_better_on_test(results: dict[str, Any]) -> None:
    told = verdict(results, {"bigram": {"plain": 0.3}, "markov_order_3": {"plain": 0.2}})
    assert told[2].startswith("counting alone, bigram:")


def test_the_best_opponent_stands_beside_it_and_is_no_counting(results: dict[str, Any]) -> None:
    plain = verdict(results, BY_VALIDATION)
    results["models"] |= {"sasrec": measured(0.9, 0.8), "sasrec+bayes": measured(0.6, 0.8)}
    told = verdict(
        results | {"opponents": ["sasrec"]}, BY_VALIDATION | {"sasrec": {"plain": 0.2, "bayes": 0.6}}
    )
    assert told[0].startswith("ab_tuned+adjusted is recommended of what can be served: 0.350")
    assert told[1:3] == plain[1:]
    assert told[3] == (
        "the best opponent, sasrec+bayes: anchor accuracy 0.600 [0.500, 0.600], tail macro recall 0.800 "
        "[0.700, 0.800]; the mean of both is 0.250 higher; it is only measured, not exported"
    )


def test_what_only_is_compared_may_be_ahead_of_what_can_be_served(results: dict[str, Any]) -> None:
    told = verdict(results, {"bigram": {"plain": 0.6, "adjusted": None}})
    assert told[0].startswith("ab_tuned+adjusted is recommended of what can be served: 0.350")
