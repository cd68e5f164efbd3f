"""The verdict on a run in three lines: what is ahead, how good it is, and whether counting would have done."""

from collections.abc import Mapping
from typing import Any

from behaviorlm.scoring.model_names import WITH_COUNTS, arm_of, model_name, split_model_name
from behaviorlm_ray.console.tables import interval_text
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION

Objectives = Mapping[str, Mapping[str, float | None]]
"""What validation says of predictors, by rule."""
COUNTING, MODEL, OPPONENT = "counting alone", "the best model", "the best opponent"
"""Kinds of predictors, as the rival of each is called."""


def verdict(results: Mapping[str, Any], objectives: Objectives) -> list[str]:
    """The predictor that is recommended, its endpoint on test, and a rival: counting, or where that is recommended
    the best model; then the best opponent, where there is any. Validation chooses these, too; where it knows
    none, test does, which favors them. Fewer lines where nothing can be said.
    """
    samples, found = results["samples"], results["recommended"]
    if not samples["validation"]:
        return [f"no model is ahead: {WITHOUT_VALIDATION}"]
    best = found["model"]
    if best is None:
        return [f"no model is ahead: {found['reason']}"]
    asked = [value for rules in objectives.values() for value in rules.values() if value is not None]
    among = " of what can be served" if max(asked, default=0.0) > found["objective"] + 1e-9 else ""
    reason = "" if found.get("reason") is None else f"; {found['reason']}"
    lines = [
        f"{best} is recommended{among}: {found['objective']:.3f} on validation, the mean of anchor accuracy and tail "
        f"macro recall{reason}",
        f"on test: {_endpoint(results, best)} ({samples['all']} samples of {samples['groups']} groups)",
    ]
    against = MODEL if _kind(results, best) == COUNTING else COUNTING
    for kind, note in ((against, ""), (OPPONENT, "; it is only measured, not exported")):
        rival, own = _best_of(results, objectives, kind), _mean(results, best)
        if rival is not None and own is not None:
            other = _mean(results, rival) or 0.0
            lines.append(
                f"{kind}, {rival}: {_endpoint(results, rival)}; "
                f"the mean of both is {abs(own - other):.3f} {'lower' if own > other else 'higher'}{note}"
            )
    return lines


def _best_of(results: Mapping[str, Any], objectives: Objectives, kind: str) -> str | None:
    """The best of a kind, no mixture, by validation, else by test; None where none has both numbers."""
    means = {
        name: mean
        for name in results["models"]
        if _kind(results, name) == kind
        and WITH_COUNTS not in split_model_name(name).predictor
        and (mean := _mean(results, name)) is not None
    }
    asked = {model_name(of, rule): value for of, rules in objectives.items() for rule, value in rules.items()}
    known = {name: value for name, value in asked.items() if name in means and value is not None}
    values = known or means
    return max(values, key=lambda name: values[name]) if values else None


def _kind(results: Mapping[str, Any], name: str) -> str:
    predictor = arm_of(split_model_name(name).predictor)
    if predictor in results.get("opponents", []):
        return OPPONENT
    return MODEL if predictor in results["validation"] else COUNTING


def _endpoint(results: Mapping[str, Any], name: str) -> str:
    values = [results["models"][name][group][metric] for group, metric in PRIMARY]
    told = [interval_text(found, "none") for found in values]
    return f"anchor accuracy {told[0]}, tail macro recall {told[1]}"


def _mean(results: Mapping[str, Any], name: str) -> float | None:
    values = [results["models"][name][group][metric]["value"] for group, metric in PRIMARY]
    return None if None in values else sum(values) / len(values)
