"""The fits of a search, and which of them is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fit:
    """One fit. rounds: of the kept state, epochs of a network, trees of boosting. loss: of the watched validation
    targets, nats; None where there are none.
    """

    learning_rate: float
    rounds: int
    loss: float | None


def best_place(fits: Sequence[Fit]) -> int:
    """Where the one with the smallest loss stands; of equal ones and without losses the first."""
    return min(range(len(fits)), key=lambda place: np.inf if (loss := fits[place].loss) is None else loss)
