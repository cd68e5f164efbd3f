"""What a trial tries: the next point of the space by grid, at random, or by Optuna from what earlier trials found.

A proposal depends on nothing but the settings, the trial's number and the outcomes it is given, so a search that was
killed proposes the same again. Optuna draws, and finds which keys mattered; the study is made anew each time.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from behaviorlm_ray.search.algorithm import AlgorithmSettings
from behaviorlm_ray.search.objective import ANCHOR, MEAN, TAIL, Metrics, ObjectiveSettings, as_number
from behaviorlm_ray.search.space import (
    COUNTABLE,
    Dimension,
    Parameters,
    Space,
    combinations,
    grid_points,
    point,
)

ATTEMPTS = 100
"""Draws after which a space counts as used up: a point that was tried already is never tried again."""
LEAST_TRIALS = 4
"""Fewer say nothing of a key's importance."""


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
        if self.algorithm.name == "optuna" and number >= self.algorithm.startup_trials:
            found = self._by_tpe(number, known)
            if found not in tried:
                return found
        for attempt in range(ATTEMPTS):
            found = random_point(self.space, self.algorithm.seed, number, attempt)
            if found not in tried:
                return found
        return next((found for found in self._points if found not in tried), None)

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
            sampler = optuna.samplers.TPESampler(
                seed=self.algorithm.seed * 1_000_003 + number,
                n_startup_trials=1,  # the first ones are drawn by us
                constant_liar=self.objective.name
                != "multi",  # running trials count as bad, so that others differ
            )
        study = _study(sampler, len(self._values({})))
        study.add_trials([self._frozen(trial) for trial in known])
        return _asked(study, self.space)

    def _frozen(self, trial: KnownTrial) -> FrozenTrial:
        """A trial of the search as Optuna keeps it."""
        parameters, metrics = trial
        if not metrics:
            return _frozen(self.space, parameters, TrialState.RUNNING if metrics is None else TrialState.FAIL)
        below = None if self.floor is None else {"anchor_floor": self.floor - as_number(metrics.get(ANCHOR))}
        return _frozen(self.space, parameters, TrialState.COMPLETE, self._values(metrics), below)

    def _values(self, metrics: Metrics) -> list[float]:
        names = {"mean": [MEAN], "tail": [TAIL], "multi": [ANCHOR, TAIL]}[self.objective.name]
        return [as_number(metrics.get(name)) for name in names]


def random_point(space: Space, *seed: int) -> Parameters:
    """A point drawn by Optuna with this seed."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part) % 2**32
    return _asked(_study(optuna.samplers.RandomSampler(mixed)), space)


def parameter_importance(
    space: Space, trials: Sequence[tuple[Parameters, float]], seed: int = 0
) -> dict[str, float]:
    """Share of the objective's variance that each key explains (Optuna's fANOVA), the greatest first, summing to 1.

    trials: parameters and objective. Empty with fewer than LEAST_TRIALS trials or equal objectives. Keys that not every
    trial has, or that never changed, are left out.
    """
    everywhere = [key for key in space if all(key in parameters for parameters, _ in trials)]
    changed = [key for key in everywhere if len({repr(parameters[key]) for parameters, _ in trials}) > 1]
    if len(trials) < LEAST_TRIALS or len({value for _, value in trials}) < 2 or not changed:
        return {}
    study = _study(optuna.samplers.RandomSampler(seed))
    study.add_trials(
        [_frozen(space, parameters, TrialState.COMPLETE, [value]) for parameters, value in trials]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=changed)


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """The dimension in Optuna's words; of a choice, the place in its list (values may be lists themselves)."""
    if dimension.choice is not None:
        return CategoricalDistribution(range(len(dimension.choice)))
    low, high = dimension.bounds
    if dimension.integer is not None:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=dimension.is_log)


def _study(sampler: optuna.samplers.BaseSampler, objectives: int = 1) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, directions=["maximize"] * objectives)


def _asked(study: optuna.Study, space: Space) -> Parameters:
    """The next point that a study asks for."""
    drawn = study.ask({key: distribution_of(dimension) for key, dimension in space.items()}).params
    return point(
        space,
        {
            key: drawn[key] if dimension.choice is None else dimension.choice[drawn[key]]
            for key, dimension in space.items()
        },
    )


def _frozen(
    space: Space,
    parameters: Parameters,
    state: TrialState,
    values: Sequence[float] | None = None,
    constraints: dict[str, float] | None = None,
) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        values=values,
        params={
            key: value if (choice := space[key].choice) is None else choice.index(value)
            for key, value in parameters.items()
        },
        distributions={key: distribution_of(space[key]) for key in parameters},
        constraints=constraints,
    )
