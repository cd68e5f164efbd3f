"""What a trial tries: the next point of the space by grid, at random, or by Optuna from what earlier trials found.

A proposal depends on nothing but the settings, the trial's number and the outcomes it is given, so a search that was
killed proposes the same again.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from behaviorlm_ray.search.algorithm import AlgorithmSettings
from behaviorlm_ray.search.objective import ANCHOR, MEAN, TAIL, Metrics, ObjectiveSettings
from behaviorlm_ray.search.space import (
    Dimension,
    Parameters,
    Space,
    grid_points,
    grid_size,
    point,
    random_point,
)

ATTEMPTS = 100
"""Draws after which a space counts as used up (our choice): a point that was tried already is never tried again."""


@dataclass(frozen=True)
class KnownTrial:
    """A trial as a proposal sees it. metrics: those of its highest rung; None: still running; empty: failed."""

    parameters: Parameters
    metrics: Metrics | None


@dataclass(frozen=True)
class Proposer:
    """Proposes points of a space. `floor`: least anchor accuracy of objective tail."""

    space: Space
    algorithm: AlgorithmSettings
    objective: ObjectiveSettings
    floor: float | None = None

    def propose(self, number: int, known: Sequence[KnownTrial]) -> Parameters | None:
        """The parameters of trial `number` (from 0); None if the space has no further point."""
        if self.algorithm.name == "grid":
            points = grid_points(self.space)
            return points[number] if number < len(points) else None
        tried = [trial.parameters for trial in known]
        size = grid_size(self.space)
        if size is not None and len(tried) >= size:
            return None
        if self.algorithm.name == "optuna" and number >= self.algorithm.startup_trials:
            found = self._by_optuna(number, known)
            if found not in tried:
                return found
        for attempt in range(ATTEMPTS):
            found = random_point(self.space, [self.algorithm.seed, number, attempt])
            if found not in tried:
                return found
        if size is None:
            return None
        return next((found for found in grid_points(self.space) if found not in tried), None)

    def _by_optuna(self, number: int, known: Sequence[KnownTrial]) -> Parameters:
        study = self._study(number)
        for trial in known:
            study.add_trial(self._frozen(trial))
        asked = study.ask()
        return point(self.space, lambda key, dimension: _suggested(asked, key, dimension))

    def _study(self, number: int) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=self.algorithm.seed * 1_000_003 + number,
                n_startup_trials=1,  # the first ones are drawn by us
                constant_liar=self.objective.name
                != "multi",  # running trials count as bad, so that others differ
            )
        return optuna.create_study(sampler=sampler, directions=["maximize"] * len(self._values({})))

    def _frozen(self, trial: KnownTrial) -> optuna.trial.FrozenTrial:
        """A trial of the search as Optuna keeps it."""
        distributions = {key: distribution(self.space[key]) for key in trial.parameters}
        parameters = {
            key: self.space[key].choice.index(value) if self.space[key].choice is not None else value  # type: ignore[union-attr]
            for key, value in trial.parameters.items()
        }
        if trial.metrics is None:
            state, values = TrialState.RUNNING, None
        elif not trial.metrics:
            state, values = TrialState.FAIL, None
        else:
            state, values = TrialState.COMPLETE, self._values(trial.metrics)
        constraints = None
        if self.floor is not None and values is not None:
            anchor = (trial.metrics or {}).get(ANCHOR)
            constraints = {"anchor_floor": self.floor - (-1.0 if anchor is None else anchor)}
        return optuna.trial.create_trial(
            state=state,
            values=values,
            params=parameters,
            distributions=distributions,
            constraints=constraints,
        )

    def _values(self, metrics: Mapping[str, float | None]) -> list[float]:
        names = {"mean": [MEAN], "tail": [TAIL], "multi": [ANCHOR, TAIL]}[self.objective.name]
        return [-1.0 if (value := metrics.get(name)) is None else value for name in names]


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension in Optuna's words; of a choice, the place in its list (values may be lists themselves)."""
    if dimension.choice is not None:
        return CategoricalDistribution(range(len(dimension.choice)))
    low, high = dimension.bounds
    if dimension.is_whole:
        return IntDistribution(int(low), int(high), log=dimension.is_log)
    return FloatDistribution(low, high, log=dimension.is_log)


def _suggested(asked: optuna.Trial, key: str, dimension: Dimension) -> Any:
    if dimension.choice is not None:
        return dimension.choice[asked.suggest_categorical(key, list(range(len(dimension.choice))))]
    low, high = dimension.bounds
    if dimension.is_whole:
        return asked.suggest_int(key, int(low), int(high), log=dimension.is_log)
    return asked.suggest_float(key, low, high, log=dimension.is_log)
