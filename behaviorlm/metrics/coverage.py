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
    probability: NDArray[np.floating], rank: NDArray[np.integer], thresholds: Sequence[float]
) -> list[CoveragePoint]:
    """Of the first answers' probabilities float[n] and the targets' ranks int[n]: 0 the first, -1 an unseen one."""
    points = []
    for threshold in thresholds:
        of_answered = rank[probability >= threshold]
        some = len(of_answered) > 0
        points.append(
            CoveragePoint(
                threshold,
                len(of_answered) / len(rank),
                float((of_answered == 0).mean()) if some else None,
                float(((of_answered >= 0) & (of_answered < FIRST)).mean()) if some else None,
            )
        )
    return points
