"""How the baselines' few smoothing weights are chosen: a grid, by likelihood of the validation targets."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TRAIN, VALIDATION, TimelineArrays

# In events: a source of n events is trusted n / (n + concentration). The last one all but switches a source off.
CONCENTRATION_GRID = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e6)


def tuning_rows(timelines: TimelineArrays) -> tuple[NDArray[np.int64], bool]:
    """Rows on which weights are chosen, and whether they were counted in training themselves.

    The validation targets of known behaviors; without any, the training targets, whose own event must then be left
    out of the counts (leave one out).
    """
    for split in (VALIDATION, TRAIN):
        rows = timelines.target_rows(split)
        rows = rows[timelines.behavior[rows] >= 0]
        if len(rows):
            return rows, split == TRAIN
    return np.zeros(0, np.int64), False


def best_concentration(loss: Callable[[float], float]) -> float:
    """The value of the grid with the smallest loss; of equal ones the smallest."""
    return min(CONCENTRATION_GRID, key=loss)


def best_concentrations(loss: Callable[[Sequence[float]], float], levels: int) -> tuple[float, ...]:
    """One value of the grid per level, by coordinate descent on a joint loss until no single change helps."""
    chosen = [5.0] * levels
    best = loss(chosen)
    improved = levels > 0
    while improved:
        improved = False
        for level in range(levels):
            for value in CONCENTRATION_GRID:
                trial = [*chosen[:level], value, *chosen[level + 1 :]]
                trial_loss = loss(trial)
                if trial_loss < best - 1e-12:
                    chosen, best, improved = trial, trial_loss, True
    return tuple(chosen)
