"""How far a log's mix of behaviors has moved from the one that a predictor was trained on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.timelines.config import VocabularyConfig

CHANCE_DRAWS = 200
"""Logs of the same size that are drawn from the training mix, to see how far chance alone moves it (our choice)."""

ANCHOR_SHARE = VocabularyConfig().anchor_threshold


@dataclass(frozen=True)
class Drift:
    """Of n targets. total_variation: half the sum of the differences of all shares, behaviors that are not known among
    them; by_chance: below it are 95 % of the draws from the training mix. became_anchor, became_tail: names of those on
    the other side of the threshold; switched: their share of the targets.
    """

    unseen: float
    new_names: dict[str, int]
    total_variation: float
    by_chance: float
    became_anchor: tuple[str, ...]
    became_tail: tuple[str, ...]
    switched: float


def drift(
    targets: NDArray[np.integer],
    unseen: Mapping[str, int],
    names: tuple[str, ...],
    counts: NDArray[np.int64],
    is_anchor: NDArray[np.bool_],
    anchor_threshold: float | None,
) -> Drift:
    """targets: int[n], n > 0, -1 for behaviors that are not known, which `unseen` counts by name. counts: int64[K], of
    the training targets. anchor_threshold: None: as the trained groups say.
    """
    found = np.bincount(targets[targets >= 0], minlength=len(names))
    size = len(targets)
    shares = np.append(found, size - found.sum()) / size
    trained = np.append(counts, 0) / max(int(counts.sum()), 1)
    draws = np.random.default_rng(0).multinomial(size, trained / trained.sum(), CHANCE_DRAWS) / size
    limit = _threshold(trained[:-1], is_anchor) if anchor_threshold is None else anchor_threshold
    is_frequent = shares[:-1] > limit
    switched = is_frequent != is_anchor
    return Drift(
        float(shares[-1]),
        dict(sorted(unseen.items(), key=lambda item: (-item[1], item[0]))),
        _distance(shares, trained),
        float(np.quantile([_distance(draw, trained) for draw in draws], 0.95)),
        tuple(np.array(names, object)[switched & is_frequent].tolist()),
        tuple(np.array(names, object)[switched & is_anchor].tolist()),
        float(shares[:-1][switched].sum()),
    )


def _threshold(shares: NDArray[np.float64], is_anchor: NDArray[np.bool_]) -> float:
    """A share that makes anchors of the same behaviors: the usual one where it does."""
    rarest, next_to_it = shares[is_anchor].min(initial=1.0), shares[~is_anchor].max(initial=0.0)
    return ANCHOR_SHARE if next_to_it <= ANCHOR_SHARE < rarest else float(rarest + next_to_it) / 2


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).sum() / 2)
