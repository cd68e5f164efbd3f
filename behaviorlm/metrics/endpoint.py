"""The two numbers that methods are compared by, anchor accuracy and tail macro recall, from choices alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.measures import behavior_counts, behavior_metrics, frequent_behaviors
from behaviorlm.metrics.outcomes import Choices


@dataclass(frozen=True)
class Endpoint:
    """Each between 0 and 1, or None where nothing counts."""

    anchor_accuracy: float | None
    tail_macro_recall: float | None


def endpoint(choices: Choices, is_anchor: NDArray[np.bool_]) -> Endpoint:
    """The primary endpoint; equal to accuracy of `anchor` and `macro_recall_at_least_10` of `tail` in `METRICS`.

    is_anchor: bool[K].
    """
    everything = np.ones(len(choices.target), bool)
    counts = behavior_counts(choices, np.ones((1, 1)), np.zeros(len(everything), np.int64), everything)
    tail = np.append(~is_anchor, True)  # an unseen target belongs to the tail
    metrics = behavior_metrics(counts, tail, frequent_behaviors(choices, everything))
    recall = float(metrics["macro_recall_at_least_10"][0])
    return Endpoint(anchor_accuracy(choices, is_anchor), recall if np.isfinite(recall) else None)


def anchor_accuracy(choices: Choices, is_anchor: NDArray[np.bool_]) -> float | None:
    """Share of the anchor targets that were chosen; None without any. is_anchor: bool[K]."""
    members = np.append(is_anchor, False)[choices.target]  # index -1, the unseen, is the last one
    hits = int((members & (choices.predicted == choices.target)).sum())
    return hits / int(members.sum()) if members.any() else None


def tail_macro_recall(choices: Choices, is_anchor: NDArray[np.bool_], minimum_targets: int) -> float | None:
    """Mean recall of the tail behaviors with at least that many targets; None if there is none. is_anchor: bool[K]."""
    seen = choices.target >= 0
    hit = seen & (choices.predicted == choices.target)
    targets = np.bincount(choices.target[seen], minlength=choices.behaviors)
    hits = np.bincount(choices.target[hit], minlength=choices.behaviors)
    counted = ~is_anchor & (targets >= max(minimum_targets, 1))
    return float((hits[counted] / targets[counted]).mean()) if counted.any() else None
