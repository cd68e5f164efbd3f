"""The verdict on a run in three lines: what is ahead, how good it is, and whether counting would have done."""

from collections.abc import Mapping
from typing import Any

from behaviorlm.scoring.model_names import WITH_COUNTS, arm_of, model_name, split_model_name
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION

Objectives = Mapping[str, Mapping[str, float | None]]
"""What validation says of predictors, by rule."""


def verdict(results: Mapping[str, Any], objectives: Objectives) -> list[str]:
    """The predictor that validation prefers, its endpoint on test, and a rival: counting, or where that is preferred
    the best model. Validation chooses the rival, too; where it knows none, test does, which favors the rival. Fewer
    lines where nothing can be said.
    """
    samples, found = results["samples"], results["recommended"]
    if not samples["validation"]:
        return [f"no model is ahead: {WITHOUT_VALIDATION}"]
    best = found["model"]
    if best is None:
        return [f"no model is ahead: {found['reason']}"]
    lines = [
        f"{best} is ahead on validation: {found['objective']:.3f}, the mean of anchor accuracy and tail macro recall",
        f"on test: {_endpoint(results, best)} ({samples['all']} samples of {samples['groups']} groups)",
    ]
    is_counting = not _is_counting(results, best)
    rival, own = _best_of(results, objectives, is_counting), _mean(results, best)
    if rival is not None and own is not None:
        other = _mean(results, rival) or 0.0
        lines.append(
            f"{'counting alone' if is_counting else 'the best model'}, {rival}: {_endpoint(results, rival)}; "
            f"the mean of both is {abs(own - other):.3f} {'lower' if own > other else 'higher'}"
        )
    return lines


def _best_of(results: Mapping[str, Any], objectives: Objectives, is_counting: bool) -> str | None:
    """The best of counting, or of the models alone, by validation, else by test; None where none has both numbers."""
    means = {
        name: mean
        for name in results["models"]
        if _is_counting(results, name) is is_counting
        and WITH_COUNTS not in split_model_name(name).predictor
        and (mean := _mean(results, name)) is not None
    }
    asked = {model_name(of, rule): value for of, rules in objectives.items() for rule, value in rules.items()}
    known = {name: value for name, value in asked.items() if name in means and value is not None}
    values = known or means
    return max(values, key=lambda name: values[name]) if values else None


def _is_counting(results: Mapping[str, Any], name: str) -> bool:
    return arm_of(split_model_name(name).predictor) not in results["validation"]


def _endpoint(results: Mapping[str, Any], name: str) -> str:
    values = [results["models"][name][group][metric] for group, metric in PRIMARY]
    told = [
        "none" if found["value"] is None else f"{found['value']:.3f}{_interval(found)}" for found in values
    ]
    return f"anchor accuracy {told[0]}, tail macro recall {told[1]}"


def _interval(found: Mapping[str, float | None]) -> str:
    low, high = found["low"], found["high"]
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"


def _mean(results: Mapping[str, Any], name: str) -> float | None:
    values = [results["models"][name][group][metric]["value"] for group, metric in PRIMARY]
    return None if None in values else sum(values) / len(values)
