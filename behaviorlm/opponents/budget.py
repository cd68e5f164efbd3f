"""What opponents are made of, how far they are searched and which fit is kept: every number in one place, our choice.

Sizes are near those that RecBole ships. Each opponent gets as many fits as rates stand here; each fit is
stopped by the likelihood of the validation targets, and the one that they prefer is kept. Light: no array library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class NetworkBudget:
    """SASRec, GRU4Rec and BERT4Rec, with Adam.

    width: of embeddings. layers, heads: of the transformers, whose inner width is four times `width`. hidden: of the
    recurrent network, of one layer. masked: the share of events that BERT4Rec hides beside the last one.
    targets_per_step: about so many training targets make one step. most_epochs: passes over the training targets.
    patience: epochs without a better validation loss after which a fit ends. epochs_unwatched: where there is no
    validation sample, exactly so many with the first rate.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    width: int = 64
    layers: int = 2
    heads: int = 2
    hidden: int = 128
    dropout: float = 0.3
    masked: float = 0.2
    targets_per_step: int = 512
    most_epochs: int = 40
    patience: int = 4
    epochs_unwatched: int = 10


@dataclass(frozen=True)
class BoostingBudget:
    """Boosted trees on pairs of a sample and a behavior.

    negatives: behaviors drawn for each training target beside its own. folds: timelines are cut into so many, and what
    is counted for a training target is counted on the others. most_targets: more training targets are thinned to so
    many. most_rounds, patience: as epochs of networks; rounds_unwatched: likewise.
    """

    learning_rates: tuple[float, ...] = (0.1, 0.05)
    leaves: int = 31
    least_in_leaf: int = 50
    negatives: int = 16
    folds: int = 4
    most_targets: int = 100_000
    most_rounds: int = 400
    patience: int = 20
    rounds_unwatched: int = 100


MOST_WATCHED = 5_000
"""Validation targets that a fit is watched on, at most; evenly taken from all."""


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
    return min(range(len(fits)), key=lambda place: inf if (loss := fits[place].loss) is None else loss)
