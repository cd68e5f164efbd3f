"""The learned opponents by name, and what each is allowed. Light: nothing is loaded that fits them."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

from behaviorlm.errors import ConfigError
from behaviorlm.opponents.budget import BoostingBudget, NetworkBudget

OpponentName = Literal["sasrec", "gru4rec", "bert4rec", "lightgbm"]

LIGHTGBM: Literal["lightgbm"] = "lightgbm"
OPPONENTS: Mapping[str, str] = {
    "sasrec": "SASRec, a causal transformer over the last events",
    "gru4rec": "GRU4Rec, a recurrent network over the last events",
    "bert4rec": "BERT4Rec, a transformer that fills in hidden events",
    LIGHTGBM: "LightGBM, boosted trees on numbers of the history and of counting",
}
"""What the report says of each, in the order of the tables."""


def budget_of(name: OpponentName) -> NetworkBudget | BoostingBudget:
    """What an opponent is allowed."""
    return BoostingBudget() if name == LIGHTGBM else NetworkBudget()


def require_installed(name: OpponentName) -> None:
    """Raise ConfigError where the library of an opponent is missing."""
    if name == LIGHTGBM and find_spec("lightgbm") is None:
        raise ConfigError(
            "evaluation.opponents: lightgbm needs LightGBM, which is not installed: "
            "pip install 'behaviorlm[opponents]'"
        )
