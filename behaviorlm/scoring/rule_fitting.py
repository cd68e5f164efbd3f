"""A decision rule of three numbers, fitted on validation samples: tail scale, tail shift and tau.

For a scale and a tau the best anchor and the best tail behavior of a sample are fixed; the shift only says which of
both is chosen. So a sample is kept as one small number for each pair (its code: from which shift on the tail is chosen,
and which group is right), and every shift is weighed from a histogram. Pairs are tried on a coarse grid, then around
the best.

Three numbers can learn the noise of few tail targets, so what the rule is worth is told by cross-fitting: the samples
of each fold of users are decided with the numbers that the others gave, and what they chose is measured together.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from behaviorlm.scoring.config import TAIL_MINIMUM_TARGETS

Codes = NDArray[np.int16]

FOLDS = 5
SHIFTS = np.arange(-128, 129) / 4
"""Tail shifts that are tried, in nats."""


class Pair(NamedTuple):
    """octaves: log2 of the tail scale."""

    octaves: float
    tau: float


COARSE = tuple(
    Pair(octaves, tau)
    for octaves in (-1.0, -0.5, 0.0, 0.5, 1.0)
    for tau in (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
)
FINE = tuple((octaves, tau) for octaves in (-0.25, 0.0, 0.25) for tau in (-0.125, 0.0, 0.125))
"""Steps around the best pair of the coarse grid."""


@dataclass(frozen=True)
class FittedNumbers:
    """What `fitted_terms` takes. right: the samples that are chosen rightly by cross-fitting, bool[n], see above; None
    with fewer than two folds, and where there is nothing to fit.
    """

    tail_scale: float
    tail_shift: float
    tau: float
    right: NDArray[np.bool_] | None


def fold_of(groups: NDArray) -> NDArray[np.int8]:
    """Fold of each sample, int8[n], the same for all of a group; groups are dealt out by a hash of their names."""
    names, code = np.unique(groups, return_inverse=True)
    hashes = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    fold = np.empty(len(names), np.int8)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[code]


def pair_codes(
    log_probabilities: NDArray[np.float64],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    prior: NDArray[np.float64],
    pairs: Sequence[Pair],
) -> Codes:
    """int16[n, pairs] of normalized log probabilities float64[n, K]; targets int[n], negative ones are never right.

    0: wrong at every shift; b + 1 and −(b + 1): right on an anchor below the shift number b, on the tail from it on.
    """
    codes = np.zeros((len(targets), len(pairs)), np.int16)
    anchors, tail = np.flatnonzero(is_anchor), np.flatnonzero(~is_anchor)
    if not len(anchors) or not len(tail):
        return codes
    of_anchors, of_tail = log_probabilities[:, anchors], log_probabilities[:, tail]
    rows = np.arange(len(targets))
    best_anchor = {}
    for tau in {pair.tau for pair in pairs}:
        scores = of_anchors - tau * prior[anchors]
        first = scores.argmax(axis=1)
        best_anchor[tau] = scores[rows, first], anchors[first] == targets
    for place, pair in enumerate(pairs):
        scores = of_tail * 2.0**pair.octaves
        scores -= pair.tau * prior[tail]
        first = scores.argmax(axis=1)
        value, is_anchor_right = best_anchor[pair.tau]
        until = np.searchsorted(SHIFTS, value - scores[rows, first], side="right") + 1
        codes[:, place] = np.where(is_anchor_right, until, np.where(tail[first] == targets, -until, 0))
    return codes


def fit_numbers(
    codes_of: Callable[[Sequence[Pair]], Codes],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    folds: NDArray[np.integer],
    minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> FittedNumbers:
    """The numbers with the best `anchor_tail_objective`; of equal ones those nearest to the plain rule (1, 0, 0).

    codes_of: `pair_codes` of all validation samples, asked twice. targets, folds: int[n]. Where an anchor target or a
    tail behavior that counts is missing there is nothing to fit, and the rule is the plain one.
    """
    weights = sample_weights(targets, is_anchor, minimum_targets)
    if weights is None:
        return FittedNumbers(1.0, 0.0, 0.0, None)
    used = np.unique(folds).tolist()
    parts = [weights]
    for fold in used:
        of_others = sample_weights(np.where(folds == fold, -1, targets), is_anchor, minimum_targets)
        parts.append(np.zeros(len(weights)) if of_others is None else of_others)
    pairs, codes = COARSE, [*codes_of(COARSE).T]
    best = [pairs[_best(codes, part, pairs)[0]] for part in parts]
    around = [[Pair(one.octaves + octaves, one.tau + tau) for octaves, tau in FINE] for one in best]
    finer = tuple(
        dict.fromkeys(pair for pairs_around in around for pair in pairs_around if pair not in COARSE)
    )
    pairs, codes = (*pairs, *finer), [*codes, *codes_of(finer).T]
    place = {pair: number for number, pair in enumerate(pairs)}
    found = []
    for part, pairs_around in zip(parts, around, strict=True):
        allowed = [*range(len(COARSE)), *(place[pair] for pair in pairs_around if pair not in COARSE)]
        number, shift = _best([codes[one] for one in allowed], part, [pairs[one] for one in allowed])
        found.append((allowed[number], shift))
    whole, of_folds = found[0], found[1:]
    right = np.zeros(len(weights), bool)
    for fold, (number, shift) in zip(used, of_folds, strict=True):
        right |= (folds == fold) & _is_right(codes[number], shift)
    pair = pairs[whole[0]]
    return FittedNumbers(
        2.0**pair.octaves, float(SHIFTS[whole[1]]), pair.tau, right if len(used) > 1 else None
    )


def cross_fitted_tau(
    right: NDArray[np.bool_],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    folds: NDArray[np.integer],
    grid: Sequence[float],
    minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> NDArray[np.bool_] | None:
    """Whether each sample is chosen rightly with the tau that the other folds prefer, bool[n]; None with one fold only.

    right: with each tau of the grid, bool[n, taus]. Of equal ones the nearest to 0, as in `choose_tau`.
    """
    used = np.unique(folds).tolist()
    if len(used) < 2:
        return None
    nearest = sorted(range(len(grid)), key=lambda place: (abs(grid[place]), grid[place]))
    found = np.zeros(len(targets), bool)
    for fold in used:
        of_others = sample_weights(np.where(folds == fold, -1, targets), is_anchor, minimum_targets)
        values = np.zeros(len(grid)) if of_others is None else np.round(of_others @ right, 9)
        found |= (folds == fold) & right[:, max(nearest, key=lambda place: float(values[place]))]
    return found


def sample_weights(
    targets: NDArray[np.integer], is_anchor: NDArray[np.bool_], minimum_targets: int
) -> NDArray[np.float64] | None:
    """What a right choice adds to anchor accuracy, or to tail macro recall, float64[n]; None where there is no such."""
    counts = np.bincount(targets[targets >= 0], minlength=len(is_anchor))
    counted = ~is_anchor & (counts >= max(minimum_targets, 1))
    anchors = int(counts[is_anchor].sum())
    if not anchors or not counted.any():
        return None
    of_behavior = np.where(is_anchor, 1.0 / anchors, 0.0)
    of_behavior[counted] = 1.0 / (counted.sum() * counts[counted])
    return np.where(targets >= 0, of_behavior[targets], 0.0)


def _best(codes: Sequence[Codes], weights: NDArray[np.float64], pairs: Sequence[Pair]) -> tuple[int, int]:
    """Place of the best pair and of its best shift. codes: int16[n] of each pair."""
    values = np.array([_by_shift(of_pair, weights) for of_pair in codes])
    numbers, shifts = np.nonzero(values > values.max() - 1e-9)  # sums in another order differ by less
    octaves, taus = np.array(pairs)[numbers].T
    chosen = SHIFTS[shifts]
    far = np.abs(octaves) + np.abs(chosen) + np.abs(taus)
    first = np.lexsort((taus, chosen, octaves, np.abs(taus), np.abs(chosen), np.abs(octaves), far))[0]
    return int(numbers[first]), int(shifts[first])


def _by_shift(codes: Codes, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the objective at each shift."""
    width = len(SHIFTS) + 2
    is_anchor, is_tail = codes > 0, codes < 0
    anchors = np.bincount(codes[is_anchor], weights[is_anchor], width)
    tail = np.bincount(-codes[is_tail], weights[is_tail], width)
    reached: NDArray[np.float64] = (anchors.sum() - anchors.cumsum() + tail.cumsum())[1 : len(SHIFTS) + 1]
    return reached


def _is_right(codes: Codes, shift: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (codes > shift + 1) | ((codes < 0) & (-codes <= shift + 1))
    return found
