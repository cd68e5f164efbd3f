"""Boosted trees (LightGBM) that tell whether a behavior comes next from numbers of the history and of counting.

Each training target stands beside `negatives` behaviors drawn from all alike. A tree model of which is the real one
has, where it is right, the log-odds log p(behavior | history) + a constant (noise-contrastive estimation, Gutmann and
Hyvärinen 2010), so that a softmax over its raw scores of all behaviors is the probability of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.opponents.budget import MOST_WATCHED, BoostingBudget, Fit, best_place
from behaviorlm.opponents.history_features import Featured, Float32, featured
from behaviorlm.opponents.names import LIGHTGBM, require_installed
from behaviorlm.opponents.windows import Int64, evenly, fitting_rows

NUMBERS_PER_BLOCK = 4_000_000
"""Features that are made at a time."""


@dataclass(frozen=True)
class FittedTrees:
    """Fitted trees. fits: those of the search."""

    booster: Any
    features: Featured
    behaviors: int
    fits: tuple[Fit, ...]

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K]."""
        return _asked(self.booster, self.features, timelines, np.asarray(rows, np.int64))


def fit_trees(timelines: TimelineArrays, max_events: int, seed: int, budget: BoostingBudget) -> FittedTrees:
    """The best of one fit for each learning rate. Deterministic in the seed. Raises ConfigError without LightGBM."""
    require_installed(LIGHTGBM)
    import lightgbm  # an extra

    train, validation = fitting_rows(timelines)
    watched = evenly(validation, MOST_WATCHED)
    features = featured(timelines, max_events, budget.folds, seed)
    chance = np.random.default_rng([seed, 29])
    of_train = _pairs(timelines, features, evenly(train, budget.most_targets), budget, chance, is_train=True)
    of_watched = _pairs(timelines, features, watched, budget, chance, is_train=False)
    fits: list[Fit] = []
    boosters = []
    for rate in budget.learning_rates if len(watched) else budget.learning_rates[:1]:
        data = lightgbm.Dataset(of_train[0], of_train[1])
        stops: list[Any] = []
        sets: list[Any] = []
        if len(watched):
            stops = [lightgbm.early_stopping(budget.patience, verbose=False)]
            sets = [lightgbm.Dataset(of_watched[0], of_watched[1], reference=data)]
        rounds = budget.most_rounds if len(watched) else budget.rounds_unwatched
        booster = lightgbm.train(_parameters(rate, seed, budget), data, rounds, sets, callbacks=stops)
        loss = None
        if len(watched):
            said = _asked(booster, features, timelines, watched)
            target = timelines.behavior[watched]
            loss = -float(said[np.arange(len(target)), target].mean(dtype=np.float64))
        fits.append(Fit(rate, booster.best_iteration if len(watched) else rounds, loss))
        boosters.append(booster)
    best = boosters[best_place(fits)]
    return FittedTrees(best, features, timelines.behaviors, tuple(fits))


def _parameters(rate: float, seed: int, budget: BoostingBudget) -> dict[str, Any]:
    return {
        "objective": "binary",
        "learning_rate": rate,
        "num_leaves": budget.leaves,
        "min_data_in_leaf": budget.least_in_leaf,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _pairs(
    timelines: TimelineArrays,
    features: Featured,
    rows: Int64,
    budget: BoostingBudget,
    chance: np.random.Generator,
    *,
    is_train: bool,
) -> tuple[Float32, NDArray[np.int8]]:
    """Features float32[pairs, F] and which pairs are real, of each row its behavior and so many drawn ones.

    A drawn one may be the row's own: what is drawn must not depend on what is real.
    """
    found: list[Float32] = []
    of = features.training if is_train else features.other
    drawn = chance.integers(timelines.behaviors, size=(len(rows), budget.negatives))
    candidates = np.concatenate([timelines.behavior[rows][:, None], drawn], axis=1)
    for block in _blocks(len(rows), timelines.behaviors):
        values = of(timelines, rows[block])
        found.append(np.take_along_axis(values, candidates[block][..., None], axis=1))
    is_real = np.zeros(candidates.shape, np.int8)
    is_real[:, 0] = 1
    flat = np.concatenate(found) if found else np.zeros((0, 1, 1), np.float32)
    return flat.reshape(-1, flat.shape[-1]), is_real.ravel()


def _blocks(rows: int, behaviors: int) -> Iterator[slice]:
    step = max(1, NUMBERS_PER_BLOCK // (10 * behaviors))
    for begin in range(0, rows, step):
        yield slice(begin, begin + step)


def _asked(booster: Any, features: Featured, timelines: TimelineArrays, rows: Int64) -> NDArray[np.float32]:
    """Log-probabilities of rows that are no training targets."""
    result = np.empty((len(rows), timelines.behaviors), np.float32)
    for block in _blocks(len(rows), timelines.behaviors):
        values = features.other(timelines, rows[block])
        raw = booster.predict(values.reshape(-1, values.shape[-1]), raw_score=True)
        result[block] = normalize_label_scores(raw.reshape(-1, timelines.behaviors))
    return result
