"""The metrics, defined once, as functions of weighted sums over samples.

A weight per sample (1 when measuring, the multiplicity of the sample's group when resampling) is all that
tells a measurement from a bootstrap resample, so both use the code below. Definitions, all of them our
choice:

- groups `all`, `anchor`, `tail` go by the *target*; an unseen target belongs to the tail. `repeats` and
  `changes` are the samples whose target is, or is not, the behavior right before it.
- accuracy, reciprocal rank, NDCG@k, recall@5 are means over the samples of a group; an unseen target scores
  0.
- precision, recall and F1 belong to a behavior and are counted over *all* samples (so an anchor sample taken
  for a tail behavior costs the tail's precision), then averaged over the behaviors of the group that occur as
  targets: equally (macro) or by number of targets (weighted). A behavior that was never predicted has
  precision 0. All unseen targets together count as one more behavior, never predicted. `repeats` and
  `changes` count within the group.
- `macro_recall_at_least_10`: macro recall over the named behaviors with at least 10 targets among the samples
  counted.
- expected calibration error: 15 bins of equal width on the confidence, right edge included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.outcomes import Choices, Outcomes

CALIBRATION_BINS = 15
ENDPOINT_MINIMUM_TARGETS = 10

SAMPLE_METRICS = ("accuracy", "mrr", "ndcg_at_3", "ndcg_at_5", "recall_at_5")
BEHAVIOR_METRICS = (
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_recall_at_least_10",
)
METRICS = (*SAMPLE_METRICS, *BEHAVIOR_METRICS, "expected_calibration_error")

Floats = NDArray[np.float64]

DENSE_CELLS, DENSE_SHARE = 50_000, 10
"""Up to so many cells, or so many times the samples, a product with a table of groups by behaviors is faster than
counting for each resample (measured).
"""


@dataclass(frozen=True)
class SampleGroup:
    """The samples a group of metrics is about: bool[n], and the behaviors it averages over: bool[K + 1].

    `counted` bool[n] are the samples over which precision, recall and F1 of those behaviors are counted.
    """

    name: str
    members: NDArray[np.bool_]
    behaviors: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def sample_groups(
    outcomes: Outcomes, is_anchor: NDArray[np.bool_], is_repeat: NDArray[np.bool_] | None
) -> list[SampleGroup]:
    """`all`, `anchor`, `tail`, and with `is_repeat` bool[n] also `repeats` and `changes`.

    `is_anchor` is bool[K]. Raises DataError for shapes that do not fit the outcomes.
    """
    if is_anchor.shape != (outcomes.behaviors,):
        raise DataError(
            f"is_anchor has shape {is_anchor.shape}, the outcomes have {outcomes.behaviors} behaviors"
        )
    anchor_or_unseen = np.append(is_anchor, False)  # index -1, the unseen, is the last one
    target_is_anchor = anchor_or_unseen[outcomes.target]
    everything = np.ones(len(outcomes), bool)
    every_behavior = np.ones(outcomes.behaviors + 1, bool)
    groups = [
        SampleGroup("all", everything, every_behavior, everything),
        SampleGroup("anchor", target_is_anchor, anchor_or_unseen, everything),
        SampleGroup("tail", ~target_is_anchor, ~anchor_or_unseen, everything),
    ]
    if is_repeat is not None:
        if is_repeat.shape != (len(outcomes),):
            raise DataError(f"is_repeat has shape {is_repeat.shape}, there are {len(outcomes)} samples")
        repeats = is_repeat.astype(bool)
        groups.append(SampleGroup("repeats", repeats, every_behavior, repeats))
        groups.append(SampleGroup("changes", ~repeats, every_behavior, ~repeats))
    return groups


def per_sample_values(outcomes: Outcomes) -> Floats:
    """What is summed over samples, float64[n, 1 + len(SAMPLE_METRICS) + CALIBRATION_BINS]."""
    rank = outcomes.rank
    seen = rank >= 0
    gain = np.where(seen, 1.0 / np.log2(np.maximum(rank, 0) + 2.0), 0.0)
    correct = (rank == 0).astype(np.float64)
    bins = calibration_bin(outcomes.confidence)
    gaps = np.zeros((len(rank), CALIBRATION_BINS))
    gaps[np.arange(len(rank)), bins] = outcomes.confidence - correct
    columns = [
        np.ones(len(rank)),
        correct,
        np.where(seen, 1.0 / (np.maximum(rank, 0) + 1.0), 0.0),
        np.where(seen & (rank < 3), gain, 0.0),
        np.where(seen & (rank < 5), gain, 0.0),
        (seen & (rank < 5)).astype(np.float64),
    ]
    return np.concatenate([np.stack(columns, axis=1), gaps], axis=1)


def calibration_bin(confidence: Floats) -> NDArray[np.int64]:
    """Index of the equal-width bin that holds each confidence, right edge included: (0, 1/15] is bin 0."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def sample_metrics(sums: Floats) -> dict[str, Floats]:
    """Metrics float64[resamples] from sums float64[resamples, columns of `per_sample_values`]; NaN without samples."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, 1:] / sums[:, :1]
    values = {name: means[:, column] for column, name in enumerate(SAMPLE_METRICS)}
    values["expected_calibration_error"] = np.abs(means[:, len(SAMPLE_METRICS) :]).sum(axis=1)
    return values


@dataclass(frozen=True)
class BehaviorCounts:
    """Weighted counts per resample and behavior, float64[resamples, K + 1]; the last column is "unseen"."""

    targets: Floats
    predicted: Floats
    correct: Floats


def behavior_counts(
    outcomes: Outcomes | Choices, weights: Floats, group_index: NDArray[np.int64], counted: NDArray[np.bool_]
) -> BehaviorCounts:
    """Targets, predictions and correct ones of the `counted` samples, bool[n].

    weights: of the groups of samples, float64[resamples, groups], whole numbers; group_index [n]: each sample's group.
    """
    width = outcomes.behaviors + 1
    target = np.where(outcomes.target < 0, outcomes.behaviors, outcomes.target)[counted]
    predicted, index = outcomes.predicted[counted], group_index[counted]
    is_correct = target == predicted
    return BehaviorCounts(
        weighted_counts(weights, index, target, width),
        weighted_counts(weights, index, predicted, width),
        weighted_counts(weights, index[is_correct], target[is_correct], width),
    )


def weighted_counts(
    weights: Floats, index: NDArray[np.int64], values: NDArray[np.integer], width: int
) -> Floats:
    """How often each value below `width` occurs, float64[resamples, width]; exact, as weights are whole numbers."""
    cells = weights.shape[1] * width
    if cells <= max(DENSE_CELLS, DENSE_SHARE * len(values)):
        table = np.bincount(index * width + values, minlength=cells).reshape(-1, width)
        return weights @ table.astype(np.float64)
    counts = np.zeros((len(weights), width))
    for resample, of_groups in enumerate(weights):
        counts[resample] = np.bincount(values, of_groups[index], minlength=width)
    return counts


def behavior_metrics(
    counts: BehaviorCounts, behaviors: NDArray[np.bool_], frequent: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Metrics float64[resamples] over the behaviors bool[K + 1]; `frequent` bool[K + 1]: those of the endpoint."""
    targets, predicted, correct = (
        values[:, behaviors] for values in (counts.targets, counts.predicted, counts.correct)
    )
    per_behavior = {
        "precision": _divided(correct, predicted),
        "recall": _divided(correct, targets),
        "f1": _divided(2 * correct, targets + predicted),
    }
    occurs = targets > 0
    values = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, of_behavior in per_behavior.items():
            values[f"weighted_{name}"] = (of_behavior * targets).sum(axis=1) / targets.sum(axis=1)
            values[f"macro_{name}"] = (of_behavior * occurs).sum(axis=1) / occurs.sum(axis=1)
        in_endpoint = occurs & frequent[behaviors]
        recall = per_behavior["recall"]
        values["macro_recall_at_least_10"] = (recall * in_endpoint).sum(axis=1) / in_endpoint.sum(axis=1)
    return values


def frequent_behaviors(outcomes: Outcomes | Choices, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Named behaviors with at least ENDPOINT_MINIMUM_TARGETS targets among those counted, bool[K + 1]."""
    targets = outcomes.target[counted & (outcomes.target >= 0)]
    return np.append(np.bincount(targets, minlength=outcomes.behaviors) >= ENDPOINT_MINIMUM_TARGETS, False)


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
