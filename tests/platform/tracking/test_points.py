"""Curves, results and parameters as MLflow takes them: nothing twice, nothing that has no value, nothing too long."""

import json
import math
from typing import Any

import pytest

from behaviorlm.config import flattened
from behaviorlm_ray.tracking.parameters import LONGEST_KEY, LONGEST_VALUE, parameters_of
from behaviorlm_ray.tracking.points import curve_points, key_of, result_values

BEGUN = 1_700_000_000.0


def line(step: int, **changes: Any) -> dict[str, Any]:
    values = {"step": step, "loss": 2.0 - step, "parts": {"samples": 1.5}, "samples": 8, "tokens": 400}
    return values | {"gradient_norm": 0.5, "learning_rate": 1e-3, "seconds": 0.5} | changes


def test_a_curve_has_each_step_at_the_time_that_the_steps_before_took() -> None:
    points = list(curve_points("curve/a", [line(0), line(1, seconds=2.0), line(2)], BEGUN))
    losses = [point for point in points if point.key == "curve/a/loss"]
    assert [(point.step, point.value) for point in losses] == [(1, 2.0), (2, 1.0), (3, 0.0)]
    assert [point.milliseconds - BEGUN * 1000 for point in losses] == [500, 2500, 3000]
    assert {point.key for point in points} == {
        f"curve/a/{name}"
        for name in (
            "loss",
            "loss_samples",
            "learning_rate",
            "gradient_norm",
            "samples_per_second",
            "tokens_per_second",
        )
    }
    assert len({(point.key, point.step) for point in points}) == len(points)


def test_what_has_no_value_has_no_point() -> None:
    points = list(curve_points("x", [line(0, gradient_norm=None, loss=math.nan, learning_rate=math.inf)], 0))
    assert {point.key for point in points} == {
        "x/loss_samples",
        "x/samples_per_second",
        "x/tokens_per_second",
    }


def test_results_have_an_interval_beside_each_value_by_group() -> None:
    measured = {"value": 0.5, "low": 0.4, "high": None}
    groups = {"tail": {"accuracy": measured, "another": measured}, "repeats": {"accuracy": measured}}
    results = {"models": {"a+adjusted": groups}, "validation": {"a": {"objective": 0.25, "told": "x"}}}
    assert list(result_values(results)) == [
        ("test/a.adjusted/tail/accuracy", 0.5),
        ("test/a.adjusted/tail/accuracy_low", 0.4),
        ("test/a.adjusted/tail/accuracy_high", None),
        ("validation/a/objective", 0.25),
    ]


@pytest.mark.parametrize(
    ("label", "key"),
    [("b_tune (ab_random)", "b_tune_ab_random"), ("x+adjusted", "x.adjusted"), ("a/b c-d.é", "a/b_c-d.")],
)
def test_a_label_becomes_a_key(label: str, key: str) -> None:
    assert key_of(label) == key


def test_parameters_are_the_configuration_flat_and_cut_where_mlflow_takes_no_more() -> None:
    long = "x" * LONGEST_VALUE
    configuration = {
        "a": {"b": 1, "c": None, "d": ["é", 2]},
        "fits": long,
        "too_long": f"{long}y",
        "odd{}": True,
        "k" * (LONGEST_KEY + 1): 1,
    }
    found = parameters_of(configuration)
    cut = found.pop("too_long")
    assert found == {"a.b": "1", "a.c": "null", "a.d": '["é", 2]', "fits": long, "odd__": "true"}
    assert len(cut) == LONGEST_VALUE and cut.startswith("xxx") and "config.yaml" in cut
    assert json.loads(found["a.d"]) == flattened(configuration)["a.d"]
