"""How well anybody could do: the frontier of anchor against tail, and bounds, from the true probabilities p*.

Our choice. Whoever knows the observed history can do no better, in expectation, than choose the behavior with the
largest `value x p*`, where a value per behavior says what a hit is worth. With the same value inside anchor and
inside tail that traces the frontier of anchor against tail accuracy; with values 1 / (expected targets of the
behavior) it bounds macro recall. `argmax p*` bounds overall accuracy only: predictors with better tails than its are
legal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.world.generator import Floats, Integers

WEIGHTS: Floats = np.linspace(0.02, 0.98, 25)
"""Worth of an anchor hit; a tail hit is worth the rest. 0.5 treats all hits alike."""
MINIMUM_TARGETS = 10
"""Macro recall counts behaviors with at least this many targets, as the primary endpoint does."""


@dataclass(frozen=True)
class Frontier:
    """One point per weight, all float64[G], NaN where nothing counts.

    *Expected*: under p*; *realized*, without a prefix: on the targets that were drawn.
    """

    weights: Floats
    expected_accuracy: Floats
    expected_anchor_accuracy: Floats
    expected_tail_accuracy: Floats
    expected_tail_macro_recall: Floats
    accuracy: Floats
    anchor_accuracy: Floats
    tail_accuracy: Floats
    tail_macro_recall: Floats


def group_values(is_anchor: NDArray[np.bool_], weights: Floats = WEIGHTS) -> Floats:
    """Value of a hit on each behavior, float64[G, K]: the weight for anchors, the rest for the tail."""
    return np.where(is_anchor[None, :], weights[:, None], 1 - weights[:, None])


def endpoint_values(targets: Floats, is_anchor: NDArray[np.bool_], weights: Floats = WEIGHTS) -> Floats:
    """Values float64[G, K] whose sum is the primary endpoint: weighted anchor accuracy and tail macro recall.

    targets: expectations under p*, float64[K]. An anchor hit adds 1 / (anchor targets), a hit on a tail behavior of at
    least 10 targets 1 / (its targets x number of such behaviors), any other nothing.
    """
    anchor = np.where(is_anchor, 1 / max(float(targets[is_anchor].sum()), 1e-12), 0.0)
    tail = macro_recall_values(targets, ~is_anchor)
    return weights[:, None] * anchor + (1 - weights[:, None]) * tail


def macro_recall_values(targets: Floats, members: NDArray[np.bool_]) -> Floats:
    """Values float64[K] whose sum over hits is the macro recall of `members` bool[K] with at least 10 targets each."""
    counted = members & (targets >= MINIMUM_TARGETS)
    with np.errstate(divide="ignore"):
        return np.where(counted, 1 / targets / max(int(counted.sum()), 1), 0.0)


def best_choices(probabilities: Floats, values: Floats) -> Integers:
    """What to predict when a hit on behavior k is worth values[k]: argmax of values x p*, int64[n]."""
    return np.argmax(probabilities * values, axis=1)


def group_frontier(
    probabilities: Floats,
    is_anchor: NDArray[np.bool_],
    targets: NDArray[np.integer],
    weights: Floats = WEIGHTS,
) -> Frontier:
    """The frontier of anchor against tail accuracy. p* float64[n, K], anchors bool[K], targets int[n] (-1: unseen)."""
    return _frontier(probabilities, is_anchor, targets, weights, group_values(is_anchor, weights))


def endpoint_frontier(
    probabilities: Floats,
    is_anchor: NDArray[np.bool_],
    targets: NDArray[np.integer],
    weights: Floats = WEIGHTS,
) -> Frontier:
    """The frontier of the primary endpoint: anchor accuracy against tail macro recall; arguments as above."""
    values = endpoint_values(probabilities.sum(axis=0), is_anchor, weights)
    return _frontier(probabilities, is_anchor, targets, weights, values)


def macro_recall_bound(
    probabilities: Floats, is_anchor: NDArray[np.bool_], targets: NDArray[np.integer]
) -> tuple[float, float]:
    """Largest tail macro recall over behaviors with 10 targets or more: (expected under p*, realized), NaN for none.

    From `argmax p* / pi` over those behaviors, pi their expected counts; the price in anchor accuracy is not looked at.
    """
    curve = endpoint_frontier(probabilities, is_anchor, targets, np.array([0.0]))
    return float(curve.expected_tail_macro_recall[0]), float(curve.tail_macro_recall[0])


def measured(
    choices: NDArray[np.integer], is_anchor: NDArray[np.bool_], targets: NDArray[np.integer]
) -> dict[str, float]:
    """Realized accuracy, anchor and tail accuracy and tail macro recall of any choices int[n]; NaN where empty."""
    counts = TargetCounts.of(targets, len(is_anchor))
    return measured_hits(hits_of(choices, targets, len(is_anchor)), counts, is_anchor)


def expected(
    choices: NDArray[np.integer], probabilities: Floats, is_anchor: NDArray[np.bool_]
) -> dict[str, float | None]:
    """What `measured` gives for choices int[n] in expectation under p* float64[n, K]: less noisy than on the draw.

    Tail macro recall is over behaviors with an expectation of at least 10 targets. None where nothing counts: without
    such a behavior, or without a sample.
    """
    chance = chance_of(choices, probabilities)
    return expected_hits(chance, probabilities.sum(axis=0), len(choices), is_anchor)


@dataclass(frozen=True)
class TargetCounts:
    """How often each of the K behaviors is the target among n samples, float64[K]; unseen targets are in n only."""

    of_behavior: Floats
    samples: int

    @classmethod
    def of(cls, targets: NDArray[np.integer], behaviors: int) -> "TargetCounts":
        """Counted from targets int[n] (-1: unseen)."""
        counts = np.bincount(targets[targets >= 0], minlength=behaviors).astype(np.float64)
        return cls(counts, len(targets))


def hits_of(choices: NDArray[np.integer], targets: NDArray[np.integer], behaviors: int) -> Floats:
    """Hits by behavior, float64[K]; those of several batches add up."""
    return np.bincount(targets[choices == targets], minlength=behaviors).astype(np.float64)


def chance_of(choices: NDArray[np.integer], probabilities: Floats) -> Floats:
    """Expected hits by the behavior that was chosen, float64[K]; those of several batches add up."""
    chance = probabilities[np.arange(len(choices)), choices]
    return np.bincount(choices, chance, minlength=probabilities.shape[1]).astype(np.float64)


def measured_hits(hits: Floats, counts: TargetCounts, is_anchor: NDArray[np.bool_]) -> dict[str, float]:
    """`measured`, from the hits of all batches."""
    anchors = counts.of_behavior[is_anchor].sum()
    values = macro_recall_values(counts.of_behavior, ~is_anchor)
    return {
        "accuracy": _share(hits.sum(), counts.samples),
        "anchor_accuracy": _share(hits[is_anchor].sum(), anchors),
        "tail_accuracy": _share(hits[~is_anchor].sum(), counts.samples - anchors),
        "tail_macro_recall": float(values @ hits) if values.any() else float("nan"),
    }


def expected_hits(
    chance: Floats, targets: Floats, samples: int, is_anchor: NDArray[np.bool_]
) -> dict[str, float | None]:
    """`expected`, from the expected hits of all batches; targets float64[K] are the expected targets of all."""
    macro = macro_recall_values(targets, ~is_anchor)
    found = {
        "accuracy": _share(chance.sum(), samples),
        "anchor_accuracy": _share(chance[is_anchor].sum(), targets[is_anchor].sum()),
        "tail_accuracy": _share(chance[~is_anchor].sum(), targets[~is_anchor].sum()),
        "tail_macro_recall": float(macro @ chance) if macro.any() else float("nan"),
    }
    return {name: None if np.isnan(value) else value for name, value in found.items()}


class FrontierSums:
    """A frontier while batches of p* come in: hits and expected hits of the best choices at each weight.

    values: float64[G, K], what a hit is worth at each of G weights.
    """

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.hits, self.chance = np.zeros(values.shape), np.zeros(values.shape)

    def add(self, probabilities: Floats, targets: NDArray[np.integer]) -> list[Integers]:
        """Add a batch of samples; returns the best choices at each weight, int64[b] each."""
        best = [best_choices(probabilities, of_weight) for of_weight in self.values]
        for index, choices in enumerate(best):
            self.hits[index] += hits_of(choices, targets, self.values.shape[1])
            self.chance[index] += chance_of(choices, probabilities)
        return best

    def frontier(
        self, weights: Floats, targets: Floats, counts: TargetCounts, is_anchor: NDArray[np.bool_]
    ) -> Frontier:
        """The frontier of all batches. targets: expected ones float64[K]; counts: those that were drawn."""
        columns = [
            [
                *expected_hits(chance, targets, counts.samples, is_anchor).values(),
                *measured_hits(hits, counts, is_anchor).values(),
            ]
            for chance, hits in zip(self.chance, self.hits, strict=True)
        ]
        return Frontier(weights, *np.array(columns, np.float64).T)  # None becomes NaN


def _frontier(
    probabilities: Floats,
    is_anchor: NDArray[np.bool_],
    targets: NDArray[np.integer],
    weights: Floats,
    values: Floats,
) -> Frontier:
    sums = FrontierSums(values)
    sums.add(probabilities, targets)
    counts = TargetCounts.of(targets, len(is_anchor))
    return sums.frontier(weights, probabilities.sum(axis=0), counts, is_anchor)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
