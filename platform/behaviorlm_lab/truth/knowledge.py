"""What is known of chosen samples at best, and predictors held against it: the ceiling, expectations and the check.

Two passes over p*, in batches: the first one sums what is to be expected, which the values of macro recall need; the
second one looks at choices.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.front import endpoint_area
from behaviorlm_lab.truth.batches import TrueProbabilities
from behaviorlm_lab.truth.frontier import (
    WEIGHTS,
    Frontier,
    FrontierSums,
    TargetCounts,
    chance_of,
    endpoint_values,
    expected_hits,
    group_values,
)
from behaviorlm_lab.truth.violations import DifferenceSums, Violation, best_of, comparisons
from behaviorlm_lab.world.generator import Floats
from behaviorlm_ray.evaluation.oracle import ExpectedAccuracy, HeldAgainstTruth

ENDPOINT_WEIGHTS = np.linspace(0.0, 1.0, 101)
"""Worth of the anchors along the endpoint's frontier: finer than a model's front, whose area is then the smaller."""

TruthBatches = Callable[[bool], Iterator[TrueProbabilities]]
"""Batches of p*, asked for anew in each pass: given everything observed before (False), or the window only (True)."""


class WorldKnowledge:
    """The true probabilities of n samples. targets: int[n], -1 for a behavior unseen in training; is_anchor bool[K]."""

    def __init__(
        self, batches: TruthBatches, targets: NDArray[np.integer], is_anchor: NDArray[np.bool_]
    ) -> None:
        self.batches, self.targets, self.is_anchor = batches, targets, is_anchor
        self.counts = TargetCounts.of(targets, len(is_anchor))

    def hold(
        self,
        choices: Mapping[str, NDArray[np.integer]],
        fronts: Mapping[str, NDArray[np.integer]],
    ) -> HeldAgainstTruth:
        """See `behaviorlm_ray.evaluation.oracle.Knowledge`. The ceiling is what nobody can be better than in
        expectation, of each group its own best, reached by different predictors: overall by argmax p*, anchors and
        tail at either end of the frontier.

        details["frontier"]["endpoint"] is to be read like a model's front: place i of each list is one predictor, the
        best for whom anchor accuracy is worth weights[i] and tail macro recall the rest (1 - weights[i]). Its
        `expected_…` lists are what it reaches in expectation under p*, to be held against a model's `expected`, and
        nobody is beyond them; the lists without a prefix are the same choices on the targets that were drawn, where
        chance may put a model ahead. `expected_area` and `area` are the areas below either, as `adjustment_front` has
        them for a model. None stands where nothing counts.
        """
        sums = self._first_sums()
        groups = FrontierSums(group_values(self.is_anchor))
        endpoint = FrontierSums(endpoint_values(sums.targets, self.is_anchor, ENDPOINT_WEIGHTS))
        compared = comparisons(sums.targets, self.is_anchor)
        differences = {name: DifferenceSums(compared) for name in choices}
        chance = {name: np.zeros(len(self.is_anchor)) for name in choices}
        front_chance = {
            name: np.zeros((points.shape[1], len(self.is_anchor))) for name, points in fronts.items()
        }
        for batch in self.batches(False):
            p, targets = batch.probabilities, self.targets[batch.places]
            groups.add(p, targets)
            endpoint.add(p, targets)
            best = best_of(compared, p)
            for name, chosen in choices.items():
                differences[name].add(p, targets, chosen[batch.places], best)
                chance[name] += chance_of(chosen[batch.places], p)
            for name, points in fronts.items():
                for number, chosen in enumerate(points[batch.places].T):
                    front_chance[name][number] += chance_of(chosen, p)
        check({name: of_model.violations() for name, of_model in differences.items()})
        of_groups, of_endpoint = (
            curve.frontier(weights, sums.targets, self.counts, self.is_anchor)
            for curve, weights in ((groups, WEIGHTS), (endpoint, ENDPOINT_WEIGHTS))
        )
        return self._held(sums, of_groups, of_endpoint, chance, front_chance)

    def _first_sums(self) -> "_FirstSums":
        sums = _FirstSums(len(self.is_anchor))
        for batch in self.batches(False):
            p = batch.probabilities
            sums.targets += p.sum(axis=0)
            sums.best += p.max(axis=1).sum()
            sums.entropy -= np.sum(p * np.log(np.maximum(p, 1e-300)))
        for batch in self.batches(True):
            sums.best_in_window += batch.probabilities.max(axis=1).sum()
        return sums

    def _held(
        self,
        sums: "_FirstSums",
        groups: Frontier,
        endpoint: Frontier,
        chance: Mapping[str, Floats],
        front_chance: Mapping[str, Floats],
    ) -> HeldAgainstTruth:
        samples = len(self.targets)
        # The end of the frontier at which only the tail counts.
        bound = (endpoint.expected_tail_macro_recall[0], endpoint.tail_macro_recall[0])
        details = {
            "accuracy_given_the_window": sums.best_in_window / samples,
            "tail_macro_recall": {"expected": _or_none(bound[0]), "realized": _or_none(bound[1])},
            "mean_entropy_nats": sums.entropy / samples,
            "frontier": {"accuracy": _columns(groups), "endpoint": _with_areas(_columns(endpoint))},
        }

        def expected(of_choices: Floats) -> ExpectedAccuracy:
            return ExpectedAccuracy(**expected_hits(of_choices, sums.targets, samples, self.is_anchor))

        return HeldAgainstTruth(
            {
                "all": sums.best / samples,
                "anchor": float(np.nanmax(groups.expected_anchor_accuracy)),
                "tail": float(np.nanmax(groups.expected_tail_accuracy)),
            },
            _or_none(bound[0]),
            details,
            {name: expected(of_model) for name, of_model in chance.items()},
            {name: [expected(point) for point in points] for name, points in front_chance.items()},
        )


class _FirstSums:
    """Over the samples: expected targets float64[K], largest p* given everything and the window, entropy in nats."""

    def __init__(self, behaviors: int) -> None:
        self.targets = np.zeros(behaviors)
        self.best = self.best_in_window = self.entropy = 0.0


def check(beyond: Mapping[str, list[Violation]]) -> None:
    """Refuse what cannot be: a model beyond the frontier by more than chance allows. Raises DataError naming it."""
    problems = []
    for name, of_model in beyond.items():
        if of_model:
            worst = max(of_model, key=lambda violation: violation.excess / violation.bound)
            problems.append(
                f"{name}: {worst.comparison} (weight {worst.weight:.2f}) is ahead of the truth by {worst.excess:.4g}, "
                f"where chance allows {worst.bound:.4g}"
            )
    if problems:
        raise DataError(
            "a model predicts what cannot be known from what was observed; it has seen its answers, or scoring is "
            "wrong:\n" + "\n".join(problems)
        )


def _columns(frontier: Any) -> dict[str, list[float | None]]:
    return {
        name: [_or_none(round(float(value), 6)) for value in values]
        for name, values in asdict(frontier).items()
    }


def _with_areas(columns: dict[str, list[float | None]]) -> dict[str, Any]:
    areas = {
        f"{prefix}area": endpoint_area(
            [
                {"anchor_accuracy": anchor, "tail_macro_recall": tail}
                for anchor, tail in zip(
                    columns[f"{prefix}anchor_accuracy"], columns[f"{prefix}tail_macro_recall"], strict=True
                )
            ]
        )
        for prefix in ("", "expected_")
    }
    return columns | areas


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)
