"""What abstaining gives: how many samples are answered at each least probability, and how many of these rightly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST = 5
"""Answers that a prediction has where nothing else is asked for."""


@dataclass(frozen=True)
class CoveragePoint:
    """coverage: share of samples whose first answer is at least so probable. Of these, precision: share with the right
    first answer; recall_at_5: share with the right one among the first five. None where none is answered.
    """

    min_probability: float
    coverage: float
    precision: float | None
    recall_at_5: float | None


def coverage_curve(
    probability: NDArray[np.floating],
    rank: NDArray[np.integer],
    thresholds: Sequence[float],
    weights: NDArray[np.floating] | None = None,
) -> list[CoveragePoint]:
    """Of the first answers' probabilities float[n] and the targets' ranks int[n]: 0 the first, -1 an unseen one.

    weights: how many samples each stands for, float[n]; None: one.
    """
    each = np.ones(len(rank)) if weights is None else weights
    is_first, is_near = rank == 0, (rank >= 0) & (rank < FIRST)
    points = []
    for threshold in thresholds:
        answered = each * (probability >= threshold)
        some = float(answered.sum())
        points.append(
            CoveragePoint(
                threshold,
                some / float(each.sum()),
                float(answered @ is_first) / some if some else None,
                float(answered @ is_near) / some if some else None,
            )
        )
    return points
