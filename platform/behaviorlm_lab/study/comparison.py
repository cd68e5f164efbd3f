"""The main tables of a study: the endpoint of every model over seeds, differences to a reference, and what was chosen.

Endpoint and front are in expectation under p*. Differences are paired by seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from behaviorlm.metrics.front import front
from behaviorlm.scoring.model_names import ADJUSTED, PLAIN, split_model_name
from behaviorlm_lab.study.intervals import MINIMUM_SEEDS, MISSING, estimate, less, markdown, mean
from behaviorlm_lab.study.settings import MAIN, PRIMARY_MODEL, REFERENCE

Record = Mapping[str, Any]

ANCHOR_LEVELS = (0.1, 0.2, 0.25, 0.3, 0.35, 0.4)
"""Anchor accuracies at which fronts are shown (our choice)."""

OF_FRONTS = (
    "A front has the strengths of adjustment that were tried, -1 to 1.5, and its area is what they reach: a model that "
    "would have more anchors below -1 has more area than is shown. Its tail at an anchor accuracy that no tried "
    "strength reaches is not known; the mean is then that of the other seeds."
)


def comparison(records: Sequence[Record], reference: str) -> list[str]:
    """The contrast that the study is about, and four tables over the records of one condition: the values, the
    differences to the reference, the fronts, and the choices.
    """
    lines = [caption(records), "", *primary_contrast(records), *values(records, reference), ""]
    lines += [bounds(records), OF_FRONTS, ""]
    if reference in records[0]["models"]:
        lines += [*differences(records, reference), ""]
    return [*lines, *fronts(records), "", *fronts(records, reference), "", *choices(records)]


def caption(records: Sequence[Record]) -> str:
    """What the numbers of a table over these records are."""
    if len(records) < MINIMUM_SEEDS:
        shown = "The values of each seed, too few for an interval"
    else:
        shown = "Means over seeds with 95 % intervals (Student's t), each for itself, not for all of them together"
    return (
        f"{shown}; in expectation under p*. Every seed has a log and an order of samples of its own, but all have one "
        "base model: what is said is given that base."
    )


def primary_contrast(records: Sequence[Record]) -> list[str]:
    """The one difference that was named before any result was seen. Empty under other conditions than the main one,
    and where one of its models is missing.
    """
    if records[0]["condition"] != MAIN or not {PRIMARY_MODEL, REFERENCE} <= set(records[0]["models"]):
        return []
    first, second = ([endpoint(record, name) for record in records] for name in (PRIMARY_MODEL, REFERENCE))
    found = estimate(less(first, second), sign=True)
    contrast = f"{PRIMARY_MODEL} less {REFERENCE}, mean of both: {found}"
    return [f"**Primary contrast**, {contrast}. All else is a look around.", ""]


def bounds(records: Sequence[Record]) -> str:
    """What nobody can be ahead of, in expectation, in words; means over seeds."""
    anchor = mean(record["ceiling"]["anchor"] for record in records)
    tail = mean(record["bound_of_tail_macro_recall"]["expected"] for record in records)
    line = f"Nobody can do better in expectation than {anchor} on anchors and, by another predictor, {tail} on tail"
    if all("ceiling_front" in record for record in records):
        both = mean(_best_mean(record["ceiling_front"]) for record in records)
        of_front = mean(record["ceiling_front"]["expected_area"] for record in records)
        line += f"; by one predictor the mean of both is {both} at most, and the area of the front {of_front}"
    return f"{line}."


def _best_mean(of_ceiling: Mapping[str, Any]) -> float:
    """The largest mean of both among the best possible choices at all weights."""
    both = np.add(of_ceiling["expected_anchor_accuracy"], of_ceiling["expected_tail_macro_recall"]) / 2
    return float(both.max())


def values(records: Sequence[Record], reference: str) -> list[str]:
    """One row a model."""
    measured = _measures(reference)
    rows = [
        [name, *(estimate([value(record, name) for record in records]) for value in measured.values())]
        for name in records[0]["models"]
    ]
    return markdown(["model", *measured], rows)


def differences(records: Sequence[Record], reference: str) -> list[str]:
    """One row a model but the reference: how far it is ahead, paired by seed. A front is that of the whole arm."""
    measured = _measures(reference)
    rows = []
    for name in records[0]["models"]:
        if name == reference:
            continue
        cells = []
        for value in measured.values():
            base = [value(record, reference) for record in records]
            cells.append(estimate(less([value(record, name) for record in records], base), sign=True))
        rows.append([name, *cells])
    return markdown([f"less {reference}", *measured], rows)


def fronts(records: Sequence[Record], reference: str | None = None) -> list[str]:
    """One row an arm: the most of the tail that its front has with at least each of some anchor accuracies; with a
    reference how far that is ahead of the front of the reference's arm, paired by seed.
    """
    names = list(records[0]["fronts"])
    other = None if reference is None else split_model_name(reference).predictor
    rows = []
    for arm in names:
        if arm == other:
            continue
        cells = []
        for anchor in ANCHOR_LEVELS:
            found = [tail_at_anchor(record, arm, anchor) for record in records]
            if other is not None:
                found = less(found, [tail_at_anchor(record, other, anchor) for record in records])
            cells.append(estimate(found, sign=other is not None))
        rows.append([arm, *cells])
    title = "front: tail at an anchor accuracy of" if other is None else f"the same, less that of {other}"
    return markdown([title, *(f"{anchor:.2f}" for anchor in ANCHOR_LEVELS)], rows)


def choices(records: Sequence[Record]) -> list[str]:
    """One row a model: what validation chose, its value there, the endpoint on the one draw, and what it cost."""
    rows = []
    for name in records[0]["models"]:
        arm, rule = split_model_name(name)
        tau = [record["tau"].get(arm) for record in records] if rule == ADJUSTED else []
        on_validation = [_on_validation(record, name) for record in records]
        drawn = [
            mean(record["models"][name][key]["value"] for record in records)
            for key in ("anchor_accuracy", "tail_macro_recall")
        ]
        cost = [
            f"{np.mean(counts):,.0f}" if any(counts) else ""
            for counts in (
                [record["optimizer_samples"].get(arm, 0) for record in records],
                [record["scoring_samples"].get(arm, 0) for record in records],
            )
        ]
        shown = ", ".join(MISSING if value is None else f"{value:g}" for value in tau)
        rows.append([name, shown, mean(on_validation, missing=""), *drawn, *cost])
    header = ["model", "tau, by seed", "objective on validation", "anchor accuracy, as drawn"]
    return markdown(
        [*header, "tail macro recall, as drawn", "optimizer samples", "and for scoring"],
        rows,
    )


def area(record: Record, name: str) -> float | None:
    """Area under the front of a model in expectation, under that of its arm if it is adjusted; None without a front."""
    found = record["fronts"].get(_of_front(name))
    return None if found is None else found["expected_area"]


def tail_at_anchor(record: Record, name: str, anchor: float) -> float | None:
    """The most of the tail that a model gets with at least an anchor accuracy, in expectation: on the line between the
    points of its front, and before the first of them what the first has.

    None beyond the last, where no strength that was tried comes, and where the front is not known in expectation.
    """
    found = record["fronts"].get(_of_front(name), {"points": []})
    expected = [point["expected"] for point in found["points"]]
    if not expected or None in expected:
        return None
    pairs = [(point["anchor_accuracy"], point["tail_macro_recall"]) for point in expected]
    kept = front([pair for pair in pairs if None not in pair])
    if not kept or anchor > kept[-1][0]:
        return None
    return float(np.interp(anchor, [one for one, _ in kept], [other for _, other in kept]))


def endpoint(record: Record, name: str) -> float | None:
    """Mean of anchor accuracy and tail macro recall, in expectation under p*; None where one of them has no targets."""
    found = record["models"][name]["expected"]
    anchor, tail = found["anchor_accuracy"], found["tail_macro_recall"]
    return None if anchor is None or tail is None else float(anchor + tail) / 2


def _measures(reference: str) -> dict[str, Callable[[Record, str], float | None]]:
    """Columns of the tables. A front belongs to the arm and not to one point of it: it is shown beside the plain model,
    and beside the reference.
    """

    def of_front(record: Record, name: str) -> float | None:
        return area(record, name) if _has_front(record, name, reference) else None

    def at_reference(record: Record, name: str) -> float | None:
        if reference not in record["models"] or not _has_front(record, name, reference):
            return None
        known = record["models"][reference]["expected"]["anchor_accuracy"]
        return None if known is None else tail_at_anchor(record, name, known)

    return {
        "anchor accuracy": lambda record, name: record["models"][name]["expected"]["anchor_accuracy"],
        "tail macro recall": lambda record, name: record["models"][name]["expected"]["tail_macro_recall"],
        "mean of both": endpoint,
        "area of the front": of_front,
        f"tail at {reference}'s anchor accuracy": at_reference,
    }


def _has_front(record: Record, name: str, reference: str) -> bool:
    return name in record["fronts"] or name == reference


def _on_validation(record: Record, name: str) -> float | None:
    predictor, rule = split_model_name(name)
    found: float | None = record["validation"].get(predictor, {}).get(rule)
    return found


def _of_front(name: str) -> str:
    """Whose front a model lies on: its predictor's, if its rule is one of those along it."""
    predictor, rule = split_model_name(name)
    return predictor if rule in (PLAIN, ADJUSTED) else name
