"""Any opponent, fitted by its name."""

from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.errors import DataError
from behaviorlm.opponents.boosting import fit_trees
from behaviorlm.opponents.budget import BoostingBudget, Fit, NetworkBudget
from behaviorlm.opponents.fitting import fit_network
from behaviorlm.opponents.names import LIGHTGBM, OpponentName
from behaviorlm.opponents.windows import fitting_rows


class Opponent(Protocol):
    """A fitted opponent; it can stand where a baseline does."""

    @property
    def fits(self) -> tuple[Fit, ...]:
        """Those of the search."""
        ...

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K] of the behavior at each row, from what lies before it.

        Those of a row do not depend on which other rows are asked for.
        """
        ...


def fit_opponent(
    name: OpponentName,
    timelines: TimelineArrays,
    max_events: int,
    seed: int,
    budget: NetworkBudget | BoostingBudget,
    device: str = "cpu",
) -> Opponent:
    """Fitted on the training targets, chosen on the validation targets. budget: `budget_of`; device: of networks.

    Raises DataError without training targets, ConfigError where its library is missing.
    """
    if not len(fitting_rows(timelines)[0]):
        raise DataError("opponents need training samples, and the log has none; check the split")
    if name == LIGHTGBM:
        return fit_trees(timelines, max_events, seed, cast(BoostingBudget, budget))
    return fit_network(name, timelines, max_events, seed, cast(NetworkBudget, budget), device)
