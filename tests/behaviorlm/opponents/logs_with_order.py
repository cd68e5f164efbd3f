"""Small logs in which the next behavior follows from the last two, with context and an unseen behavior."""

from dataclasses import replace

import numpy as np

from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.opponents.budget import NetworkBudget
from tests.behaviorlm.baselines.test_baselines import NAMES, random_table

SMALL = NetworkBudget(learning_rates=(1e-2, 3e-2), width=16, hidden=16, targets_per_step=64, most_epochs=12)


def log_with_order(seed: int = 0, users: int = 30) -> TimelineArrays:
    """Timelines as arrays; 70 % of each are training."""
    return timeline_arrays(random_table(seed, users), NAMES)


def changed_at(timelines: TimelineArrays, rows: np.ndarray) -> TimelineArrays:
    """The same with other behaviors at these rows, which stay what they are as targets of training or not."""
    behavior = timelines.behavior.copy()
    behavior[rows] = (np.maximum(behavior[rows], 0) + 2) % len(NAMES)
    return replace(timelines, behavior=behavior)
