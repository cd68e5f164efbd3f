"""Whether a model does better than the truth allows: beyond the frontier by more than chance is a bug.

Our choice, and an argument rather than a resampling. Given everything observed before it, an event is drawn from p*,
and what a model predicts does not depend on that draw. So for any value of a hit, the sum over samples of (value of
the model's hit - value of the best choice's hit) is a martingale plus non-positive means: its expectation is at most
0 for every honest model, and mean and variance of each term follow from p* exactly. Freedman's inequality turns the
sum of the variances and the largest term into a bound that holds for any number of samples and any skew (a normal
approximation does not, where a few rare hits decide): P(sum >= x) <= exp(-x^2 / (2 V + 2 c x / 3)). V is taken as
given, as are the expected counts in the values of macro recall. One-sided, 99.9 % for all comparisons of a call
together (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.truth.frontier import WEIGHTS, best_choices, endpoint_values, group_values
from behaviorlm_lab.world.generator import Floats

LEVEL = 0.001


@dataclass(frozen=True)
class Violation:
    """A comparison in which a model came out better than chance allows."""

    comparison: str
    """`accuracy`, `anchor and tail accuracy`, `anchor accuracy and tail macro recall`, or `its own choices`."""
    weight: float
    """Worth of an anchor hit in this comparison; a tail hit is worth the rest."""
    excess: float
    """Sum of values by which the model is ahead, in units of the comparison's values."""
    bound: float
    """What chance allows."""


@dataclass(frozen=True)
class Against:
    """A comparison: what a hit on each behavior is worth, float64[K], against whose choices.

    is_own: against p* of the model's own choices, else against the best choices.
    """

    name: str
    weight: float
    values: Floats
    is_own: bool = False


def comparisons(
    targets: Floats, is_anchor: NDArray[np.bool_], weights: Floats = WEIGHTS
) -> tuple[Against, ...]:
    """Every comparison; targets float64[K] are the expected ones of all samples.

    Against the best choices: overall accuracy, anchor against tail accuracy and the primary endpoint, the last two at
    every weight. And against p* of the model's own choices, at every weight: who hits more often than p* of what she
    chose knows something that was not observed, even where she stays inside the frontier.
    """
    groups = list(zip(weights.tolist(), group_values(is_anchor, weights), strict=True))
    endpoint = zip(weights.tolist(), endpoint_values(targets, is_anchor, weights), strict=True)
    return (
        Against("accuracy", 0.5, np.ones(len(is_anchor))),
        *(Against("anchor and tail accuracy", *pair) for pair in groups),
        *(Against("anchor accuracy and tail macro recall", *pair) for pair in endpoint),
        *(Against("its own choices", *pair, is_own=True) for pair in groups),
    )


def best_of(compared: Sequence[Against], probabilities: Floats) -> list[NDArray[np.integer] | None]:
    """For each comparison the best choices of a batch, int64[b]; None where it is with a model's own."""
    return [None if one.is_own else best_choices(probabilities, one.values) for one in compared]


class DifferenceSums:
    """What a model is ahead by in each comparison, with its variance and largest term, while batches come in."""

    def __init__(self, compared: Sequence[Against]) -> None:
        self.compared = compared
        self.excess, self.variance, self.largest = np.zeros((3, len(compared)))

    def add(
        self,
        probabilities: Floats,
        targets: NDArray[np.integer],
        choices: NDArray[np.integer],
        best: Sequence[NDArray[np.integer] | None],
    ) -> None:
        """Add a batch of samples: p* float64[b, K], targets and the model's choices int[b], `best_of` the batch."""
        chance, is_hit = probabilities[np.arange(len(targets)), choices], choices == targets
        for index, (one, of_best) in enumerate(zip(self.compared, best, strict=True)):
            value = one.values[choices]
            hits = value * is_hit
            if of_best is None:
                self.excess[index] += (hits - value * chance).sum()
                self.variance[index] += (value**2 * chance * (1 - chance)).sum()
                step = value * (1 - chance)
            else:
                differs = choices != of_best  # elsewhere the difference is 0 whatever happens
                best_chance = probabilities[np.arange(len(targets)), of_best]
                best_value = one.values[of_best]
                mean = value * chance - best_value * best_chance
                square = value**2 * chance + best_value**2 * best_chance
                self.excess[index] += (hits - best_value * (of_best == targets))[differs].sum()
                self.variance[index] += (square - mean**2)[differs].sum()
                step = (value - mean)[differs]
            self.largest[index] = max(self.largest[index], float(step.max(initial=0)))

    def violations(self, level: float = LEVEL) -> list[Violation]:
        """Where the sum of all batches is beyond its bound; `level` is for all comparisons together."""
        found = []
        for one, excess, variance, largest in zip(
            self.compared,
            self.excess.tolist(),
            self.variance.tolist(),
            self.largest.tolist(),
            strict=True,
        ):
            bound = freedman_bound(variance, largest, level / len(self.compared))
            if excess > bound:
                found.append(Violation(one.name, one.weight, excess, bound))
        return found


def freedman_bound(variance: float, largest: float, level: float) -> float:
    """The x that a martingale with this sum of variances and these largest steps passes with chance `level` at most."""
    log_odds = math.log(1 / level)
    linear = largest * log_odds / 3
    return linear + math.sqrt(linear**2 + 2 * variance * log_odds)
