"""What was not learned, and what is too little to rest on, in words."""

import math
from collections.abc import Sequence

from behaviorlm.opponents.names import OPPONENTS
from behaviorlm_ray.evaluation.comparison import FEW_TAIL
from behaviorlm_ray.report.content import LossPoint, ReportData
from behaviorlm_ray.report.forms import MOST_FREQUENT, Forms
from behaviorlm_ray.report.panels.first_screen import groups_called, tail_counted
from behaviorlm_ray.report.wording import count, measured, percent

ALWAYS_ONE = 0.95
"""Share of the test samples for which one behavior is predicted, from which on it learned nothing else (our choice)."""
FEW_USERS = 30


def to_know(data: ReportData, forms: Forms) -> list[str]:
    """What a reader has to know before the numbers, in sentences; empty where all is well."""
    return [*_below_most_frequent(forms), *_always_one(data, forms), *_curves(data), *_little(data)]


def _below_most_frequent(forms: Forms) -> list[str]:
    """Tuned models and learned opponents that are right less often, under any rule, than the simplest counting."""
    best: dict[str, float] = {}
    for shown in [*forms.best, *forms.others]:
        has_learned = shown.kind == "tuned" or shown.predictor in OPPONENTS
        if (has_learned or shown.predictor == MOST_FREQUENT) and shown.accuracy.value is not None:
            best[shown.predictor] = max(shown.accuracy.value, best.get(shown.predictor, 0.0))
    floor = best.pop(MOST_FREQUENT, 0.0)
    below = [f"{name} ({percent(accuracy)})" for name, accuracy in best.items() if accuracy < floor]
    if not below:
        return []
    return [
        f"Not learned: {', '.join(below)} {'is' if len(below) == 1 else 'are'} right less often than always naming the "
        f"most frequent behavior ({percent(floor)})."
    ]


def _always_one(data: ReportData, forms: Forms) -> list[str]:
    told = []
    for shown in forms.best:
        rows = data.behaviors.get(shown.model, [])
        total = sum(row.predicted or 0 for row in rows)
        most = max(rows, key=lambda row: row.predicted or 0, default=None)
        if shown.kind == "baseline" or most is None or not total:
            continue
        share = (most.predicted or 0) / total
        if share >= ALWAYS_ONE:
            told.append(
                f"One behavior only: {shown.model} predicts {most.behavior} for {percent(share)} of the samples."
            )
    return told


def _curves(data: ReportData) -> list[str]:
    told = []
    for stage, curve in data.loss_curves.items():
        ends = loss_ends(curve)
        if ends is not None and not ends[1] < ends[0]:
            told.append(
                f"No learning: the loss of {stage} was {measured(ends[0])} over its first steps and "
                f"{measured(ends[1])} over its last; try a lower learning rate, or more steps."
            )
        if any(point.loss is None or not math.isfinite(point.loss) for point in curve):
            told.append(f"Broken: the loss of {stage} was no number at some steps; lower the learning rate.")
    return told


def loss_ends(curve: Sequence[LossPoint]) -> tuple[float, float] | None:
    """Mean loss over the first and over the last fifth of a curve; None for fewer than ten steps."""
    losses = [point.loss for point in curve if point.loss is not None and math.isfinite(point.loss)]
    fifth = len(losses) // 5
    if fifth < 2:
        return None
    return sum(losses[:fifth]) / fifth, sum(losses[-fifth:]) / fifth


def _little(data: ReportData) -> list[str]:
    told = []
    users, called = data.results.samples.get("groups"), groups_called(data)
    if users == 1:
        told.append(f"Little: the test part has one of the {called} only, so that there are no intervals.")
    elif isinstance(users, int) and users < FEW_USERS:
        told.append(
            f"Little: the test part has {count(users)} {called} only, and intervals over so few are rough."
        )
    counted = tail_counted(data)
    if counted is not None and counted[0] < FEW_TAIL:
        told.append(
            f"Little: tail behaviors with {data.tail_minimum_targets} test targets: {count(counted[0])}, so that the "
            "number of the tail says little; a larger share for test (split.test) or a longer log helps."
        )
    return told
