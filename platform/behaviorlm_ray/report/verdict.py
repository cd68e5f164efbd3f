"""The verdict on a run in three lines: what is ahead, how good it is, and whether counting would have done.

Where counting is ahead, the third line tells of the best model.
"""

from collections.abc import Mapping
from typing import Any

from behaviorlm.scoring.model_names import arm_of, split_model_name
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION


def verdict(results: Mapping[str, Any]) -> list[str]:
    """The model that validation prefers, its endpoint on test, and beside it the best of counting, or of the models
    where counting is preferred, whatever its rule.

    That is the best of all on test, which favors it. Fewer lines where nothing can be said.
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
    is_counting = _is_counting(results, best)
    others = {
        name: mean
        for name in results["models"]
        if _is_counting(results, name) is not is_counting and (mean := _mean(results, name)) is not None
    }
    own = _mean(results, best)
    if others and own is not None:
        other = max(others, key=lambda name: others[name])
        called = "the best model" if is_counting else "counting alone"
        lines.append(f"{called}, {other}: {_endpoint(results, other)}; {_stands(others[other] - own)}")
    return lines


def _stands(difference: float) -> str:
    shown = f"{abs(difference):.3f}"
    if not float(shown):
        return "the mean of both is the same"
    return f"the mean of both is {shown} {'lower' if difference < 0 else 'higher'}"


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
