"""Any opponent, fitted by its name."""

from typing import cast

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.errors import DataError
from behaviorlm.opponents.boosting import FittedTrees, fit_trees
from behaviorlm.opponents.budget import BoostingBudget, NetworkBudget
from behaviorlm.opponents.fitting import FittedNetwork, fit_network
from behaviorlm.opponents.names import LIGHTGBM, OpponentName
from behaviorlm.opponents.windows import fitting_rows

Opponent = FittedNetwork | FittedTrees
"""It can stand where a `Baseline` does, and tells of the fits of its search."""


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
