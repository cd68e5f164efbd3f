"""What a trial tries: the next point of the space by grid, at random, or by Optuna from what earlier trials found.

A proposal depends on nothing but the settings, the trial's number and the outcomes it is given, so a search that was
killed proposes the same again. Optuna draws; the study is made anew each time.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from behaviorlm_ray.search.objective import ANCHOR, Metrics, ObjectiveSettings, as_number
from behaviorlm_ray.search.space import (
    COUNTABLE,
    AlgorithmSettings,
    Dimension,
    Parameters,
    Space,
    combinations,
    grid_points,
)

ATTEMPTS = 100
"""Draws after which a space counts as used up: a point that was tried already is never tried again."""

KnownTrial = tuple[Parameters, Metrics | None]
"""A trial as a proposal sees it, with the metrics of its highest rung; None: still running; empty: failed."""


@dataclass(frozen=True)
class Proposer:
    """Proposes points of a space. `floor`: least anchor accuracy of objective tail."""

    space: Space
    algorithm: AlgorithmSettings
    objective: ObjectiveSettings
    floor: float | None = None

    def propose(self, number: int, known: Sequence[KnownTrial]) -> Parameters | None:
        """The parameters of trial `number` (from 0); None if the space has no further point."""
        if self._points and number >= len(self._points):
            return None
        if self.algorithm.name == "grid":
            return self._points[number]
        tried = [parameters for parameters, _ in known]
        return next((found for found in self._candidates(number, known) if found not in tried), None)

    def _candidates(self, number: int, known: Sequence[KnownTrial]) -> Iterable[Parameters]:
        """Points, the most wanted first."""
        if self.algorithm.name == "optuna" and number >= self.algorithm.startup_trials:
            yield self._by_tpe(number, known)
        for attempt in range(ATTEMPTS):
            yield random_point(self.space, self.algorithm.seed, number, attempt)
        yield from self._points

    @cached_property
    def _points(self) -> list[Parameters]:
        """All points of a grid, or of a space of choices; none if they are countless."""
        choices = all(dimension.choice is not None for dimension in self.space.values())
        if self.algorithm.name != "grid" and not (choices and combinations(self.space) <= COUNTABLE):
            return []
        return grid_points(self.space)

    def _by_tpe(self, number: int, known: Sequence[KnownTrial]) -> Parameters:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = TPESampler(
                seed=self.algorithm.seed * 1_000_003 + number,
                n_startup_trials=1,  # the first ones are drawn by us
                constant_liar=True,  # running trials count as bad, so that others differ
            )
        maximized = self.objective.compared_by
        frozen = []
        for parameters, metrics in known:
            values = None if metrics is None else [as_number(metrics[maximized])] if metrics else []
            below = None
            if metrics and self.floor is not None:
                below = {"anchor_floor": self.floor - as_number(metrics[ANCHOR])}
            frozen.append(_frozen(self.space, parameters, values, below))
        return _asked(self.space, sampler, frozen)


def random_point(space: Space, *seed: int) -> Parameters:
    """A point drawn by Optuna with this seed."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part) % 2**32
    return _asked(space, RandomSampler(mixed))


def _asked(space: Space, sampler: BaseSampler, known: Iterable[FrozenTrial] = ()) -> Parameters:
    """The next point that a study asks for."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.add_trials(known)
    drawn = study.ask({key: _distribution(dimension) for key, dimension in space.items()}).params
    choices = {key: dimension.choice for key, dimension in space.items()}
    return {key: drawn[key] if choice is None else choice[drawn[key]] for key, choice in choices.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    """The dimension in Optuna's words; of a choice, the place in its list (values may be lists themselves)."""
    if dimension.choice is not None:
        return CategoricalDistribution(range(len(dimension.choice)))
    low, high = dimension.bounds
    if dimension.integer is not None:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=dimension.log_uniform is not None)


def _frozen(
    space: Space,
    parameters: Parameters,
    values: Sequence[float] | None,
    constraints: dict[str, float] | None = None,
) -> FrozenTrial:
    """A trial of the search as Optuna keeps it. values: None: still running; empty: failed."""
    ended = TrialState.COMPLETE if values else TrialState.FAIL
    return create_trial(
        state=TrialState.RUNNING if values is None else ended,
        values=values or None,
        params={
            key: value if (choice := space[key].choice) is None else choice.index(value)
            for key, value in parameters.items()
        },
        distributions={key: _distribution(space[key]) for key in parameters},
        constraints=constraints,
    )
