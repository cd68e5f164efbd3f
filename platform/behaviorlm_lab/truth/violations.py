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


def violations(
    probabilities: Floats,
    is_anchor: NDArray[np.bool_],
    targets: NDArray[np.integer],
    choices: NDArray[np.integer],
    weights: Floats = WEIGHTS,
    level: float = LEVEL,
) -> list[Violation]:
    """The comparisons in which a model is beyond the truth; an honest one has none, with probability 1 - level.

    probabilities: whole-history p* float64[n, K] of the model's test samples; is_anchor bool[K]; targets and the
    model's choices int[n]. Against the best choices: overall accuracy, anchor against tail accuracy and the primary
    endpoint, the last two at every weight. And against p* of the model's own choices, at every weight: who hits more
    often than p* of what she chose knows something that was not observed, even where she stays inside the frontier.
    """
    overall = np.ones((1, len(is_anchor)))
    groups = group_values(is_anchor, weights)
    endpoint = endpoint_values(probabilities, is_anchor, weights)
    compared = [
        ("accuracy", 0.5, overall[0], False),
        *(("anchor and tail accuracy", float(w), row, False) for w, row in zip(weights, groups, strict=True)),
        *(
            ("anchor accuracy and tail macro recall", float(w), row, False)
            for w, row in zip(weights, endpoint, strict=True)
        ),
        *(("its own choices", float(w), row, True) for w, row in zip(weights, groups, strict=True)),
    ]
    found = []
    for name, weight, values, is_own in compared:
        best = None if is_own else best_choices(probabilities, values)
        excess, bound = _excess(probabilities, values, targets, choices, best, level / len(compared))
        if excess > bound:
            found.append(Violation(name, weight, excess, bound))
    return found


def _excess(
    probabilities: Floats,
    values: Floats,
    targets: NDArray[np.integer],
    choices: NDArray[np.integer],
    best: NDArray[np.integer] | None,
    level: float,
) -> tuple[float, float]:
    """The sum in question and its bound at `level`. Without `best`, choices are compared with their own p*."""
    rows = np.arange(len(targets))
    chance, value = probabilities[rows, choices], values[choices]
    hits = value * (choices == targets)
    if best is None:
        excess = float((hits - value * chance).sum())
        variance = float((value**2 * chance * (1 - chance)).sum())
        largest = float((value * (1 - chance)).max(initial=0))
    else:
        differs = choices != best  # elsewhere the difference is 0 whatever happens
        best_chance, best_value = probabilities[rows, best], values[best]
        mean = value * chance - best_value * best_chance
        square = value**2 * chance + best_value**2 * best_chance
        excess = float((hits - best_value * (best == targets))[differs].sum())
        variance = float((square - mean**2)[differs].sum())
        largest = float((value - mean)[differs].max(initial=0))
    return excess, freedman_bound(variance, largest, level)


def freedman_bound(variance: float, largest: float, level: float) -> float:
    """The x that a martingale with this sum of variances and these largest steps passes with chance `level` at most."""
    log_odds = math.log(1 / level)
    linear = largest * log_odds / 3
    return linear + math.sqrt(linear**2 + 2 * variance * log_odds)
