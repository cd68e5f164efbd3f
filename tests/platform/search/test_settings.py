"""What a search may be told: spaces, objectives, rungs, budgets; and what is refused, all at once."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from behaviorlm.config import load_settings
from behaviorlm.errors import ClusterError, ConfigError, ModelError
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.findings import Findings, TrialOutcome, check_for_winner
from behaviorlm_ray.search.objective import ObjectiveSettings, ranked
from behaviorlm_ray.search.proposals import random_point
from behaviorlm_ray.search.settings import SchedulerSettings, SearchSettings
from behaviorlm_ray.search.space import grid_points, single_changes
from behaviorlm_ray.stages.attempts import StageResult
from tests.platform.single_stage import run_stage

SPACE: dict[str, Any] = {
    "selection": {"within": ["mixed", "random"], "hard_share": {"uniform": [0, 1]}},
    "b_tuning.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "b_tuning.max_steps": {"integer": [3, 5]},
}
GRID: dict[str, Any] = {
    "selection.within": ["mixed", "random"],
    "selection.hard_share": [0.0, 0.5, 1.0],
    "b_tuning.learning_rate": [1e-4, 1e-3, 1e-2],
    "b_tuning.max_steps": [3, 5],
}


def read(**keys: Any) -> SearchSettings:
    return load_settings(SearchSettings, data={"name": "s", "space": GRID} | keys)


def test_a_grid_has_every_combination_once() -> None:
    space = read().space
    points = grid_points(space)
    assert len(points) == 2 * 3 * 3 * 2
    assert points[0] == {
        "selection.within": "mixed",
        "selection.hard_share": 0.0,
        "b_tuning.learning_rate": 1e-4,
        "b_tuning.max_steps": 3,
    }
    assert points[1]["b_tuning.max_steps"] == 5
    assert sorted({point["b_tuning.learning_rate"] for point in points}) == [1e-4, 1e-3, 1e-2]
    assert len({repr(point) for point in points}) == len(points)


def test_a_list_is_a_choice_whatever_its_values_are() -> None:
    space = read(space={"b_tuning.betas": [[0.9, 0.999], [0.9, 0.95]], "x": [None, "a", {"b": 1}]}).space
    assert space["b_tuning.betas"].choice == [[0.9, 0.999], [0.9, 0.95]]
    assert grid_points(space)[0] == {"b_tuning.betas": [0.9, 0.999], "x": None}


def test_random_points_lie_in_their_ranges_and_follow_from_the_seed() -> None:
    space = read(space=SPACE, algorithm="random", budget={"trials": 3}).space
    drawn = [random_point(space, seed) for seed in range(300)]
    assert drawn[7] == random_point(space, 7)
    rates = [point["b_tuning.learning_rate"] for point in drawn]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / 300 < 0.6
    assert {point["b_tuning.max_steps"] for point in drawn} == {3, 4, 5}
    assert all(point.keys() == space.keys() for point in drawn)


def test_each_value_is_tried_alone() -> None:
    changes = list(single_changes(read(space=SPACE, algorithm="random", budget={"trials": 3}).space))
    assert {"selection.hard_share": 1.0} in changes
    assert {"b_tuning.learning_rate": 1e-2} in changes


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ([], "at least one value"),
        ([1, 2, 1], "each value may stand there once"),
        ({"uniform": [1, 0]}, r"low < high, got \[1\.0, 0\.0\]"),
        ({"log_uniform": [0, 1]}, "low must be above 0"),
        ({"integer": [0.5, 2]}, "integer"),
        ({"uniform": [0, math.inf]}, "finite number"),
        ({"uniform": [0, 1], "choice": [1]}, "exactly one of"),
        ({"uniform": [0, 1], "when": {"selection.within": "mixed"}}, "when: unknown key"),
        ({"uniform": [0, 1], "step": 2}, "unknown key"),
        (0.3, "Input should be a valid list; got 0.3"),
        ({"uniform": [0, 1]}, "a grid needs values of a range"),
    ],
)
def test_a_dimension_that_cannot_be_is_refused_by_its_key(dimension: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)selection\.total.*{message}|{message}.*selection\.total"):
        read(space={"selection": {"total": dimension}})


def test_several_problems_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        read(
            space={"name": ["a", "b"], "b_tuning.learning_rate": {"log_uniform": [1e-4, 1]}, "arms": [1]},
        )
    for part in ("space.name: a search does not vary it", "a grid needs values", "space.arms"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        read(
            algorithm="bayes",
            scheduler={"name": "asha", "rungs": 1},
            budget={"trials": 0, "gpu_hours": 3},
            objective={"name": "tail"},
        )
    for part in (
        "algorithm.name: Input should be 'grid', 'random' or 'optuna'; got 'bayes'",
        "scheduler.rungs: Input should be greater than or equal to 2",
        "budget.trials",
        "budget.gpu_hours: unknown key",
        "needs a floor, such as 0.62",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_without_a_grid_a_number_of_trials_is_needed(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"budget\.trials: algorithm {name} needs a number"):
        read(algorithm=name)
    assert read(algorithm=name, budget={"trials": 3}).algorithm.name == name


def test_a_floor_belongs_to_objective_tail_alone() -> None:
    with pytest.raises(ValidationError, match="only it has one"):
        ObjectiveSettings(name="mean", floor=0.5)
    with pytest.raises(ValidationError, match="only a floor can count from an arm"):
        ObjectiveSettings(floor_arm="one_stage")
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        ObjectiveSettings(name="tail", floor=62)


def test_below_the_floor_the_nearest_is_best_and_none_is_worst() -> None:
    trials: list[dict[str, float | None]] = [
        {"objective": None, "anchor_accuracy": anchor, "tail_macro_recall": tail}
        for anchor, tail in ((0.5, 0.9), (0.6, 0.1), (0.55, 0.8), (0.7, 0.3), (None, 0.9))
    ]
    assert ranked(ObjectiveSettings(name="tail", floor=0.6), 0.6, trials) == [3, 1, 2, 0, 4]


def test_rungs_are_where_they_are_said_to_be() -> None:
    asha = SchedulerSettings(name="asha")
    assert [asha.stop_step(rung, 100) for rung in range(3)] == [12, 34, 100]
    assert [asha.stop_step(rung, 2) for rung in range(3)] == [1, 1, 2]
    half = SchedulerSettings(name="asha", rungs=2, reduction=2)
    assert [half.stop_step(rung, 9) for rung in range(2)] == [5, 9]
    assert SchedulerSettings().number_of_rungs == 1
    assert SchedulerSettings().stop_step(0, 100) == 100


@pytest.mark.parametrize("keys", [{"reduction": 1}, {"rungs": 1}, {"name": "hyperband"}])
def test_rungs_that_cannot_be_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SchedulerSettings.model_validate({"name": "asha"} | keys)


def trial(number: int, status: str, anchor: float | None = None) -> TrialOutcome:
    metrics = {"objective": 0.3, "anchor_accuracy": anchor, "tail_macro_recall": 0.1}
    return TrialOutcome.model_validate(
        {
            "trial": number,
            "parameters": {"selection.balance": number / 10},
            "status": status,
            "metrics": {} if anchor is None else metrics,
        }
    )


@pytest.mark.parametrize(
    ("keys", "trials", "errors", "kind", "message"),
    [
        (
            {"objective": {"name": "tail", "floor": 0.7}},
            [trial(0, "finished", 0.5), trial(1, "finished", 0.6)],
            [None, None],
            ModelError,
            r"no trial reaches the floor: anchor accuracy at least 0\.7000 \(0\.7\); the nearest has 0\.6000, with "
            r"selection\.balance=0\.1",
        ),
        ({}, [trial(0, "failed")], ["too hot"], ClusterError, "no trial was tuned whole\ntoo hot"),
        (
            {"budget": {"tokens": 100}},
            [trial(0, "stopped", 0.5)],
            [None],
            ClusterError,
            r"(?s)the budget was used up before one trial was tuned whole; raise budget.*tokens 120.*'tokens': 100",
        ),
    ],
    ids=["floor", "all fail", "budget"],
)
def test_a_search_without_a_winner_says_why(
    keys: dict[str, Any],
    trials: list[TrialOutcome],
    errors: list[str | None],
    kind: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    settings = read(**keys)
    stages = {"a_tune": committed(tmp_path, 120.0)}
    outcomes = [
        Outcome(task=Task(number=number, trial=number, rung=0, parameters={}), error=error, stages=stages)
        for number, error in enumerate(errors)
    ]
    costs = StageCosts(tmp_path)
    found = Findings(settings, trials, outcomes, costs, 0.7 if settings.objective.floor else None)
    with pytest.raises(kind, match=message):
        check_for_winner(found)
    if found.floor is not None:
        check_for_winner(replace(found, trials=[*trials, trial(2, "finished", 0.7)]))


def committed(root: Path, tokens: float) -> str:
    """A finished stage of these tokens; the name of its folder."""
    return (
        run_stage(root, "a_tune", 1, {}, {}, lambda folder: StageResult(cost={"tokens": tokens}))
        .folder.parents[1]
        .name
    )
