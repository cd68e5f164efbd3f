"""What a search runs next: the same row of tasks whatever ended first and however often it was killed."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter

from behaviorlm.config import load_settings
from behaviorlm_ray.search.decisions import Outcome, Rules, Task, next_task
from behaviorlm_ray.search.objective import ObjectiveSettings
from behaviorlm_ray.search.proposals import KnownTrial, Proposer
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.space import AlgorithmSettings, Dimension, read_space

GRID = {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1, 2]}
RANGES = {
    "a": {"uniform": [0.0, 1.0]},
    "kind": ["x", "y"],
    "b": {"log_uniform": [1e-4, 1.0]},
}
MEAN = ObjectiveSettings()


def space_of(nested: dict[str, Any]) -> dict[str, Dimension]:
    return TypeAdapter(dict[str, Dimension]).validate_python(read_space(nested))


def rules(
    space: dict[str, Any],
    algorithm: dict[str, Any] | str = "grid",
    objective: dict[str, Any] | str = "mean",
    *,
    rungs: int = 3,
    at_a_time: int = 3,
    trials: int | None = None,
    going_on_first: bool = False,
    exhausted: Callable[[Sequence[Outcome]], bool] = lambda known: False,
) -> Rules:
    data = {
        "name": "s",
        "space": space,
        "algorithm": algorithm,
        "objective": objective,
        "scheduler": "none" if rungs == 1 else {"name": "asha", "reduction": 3, "rungs": rungs},
        "budget": {"trials": trials, "tokens": 1e9 if going_on_first else None},
        "max_concurrent_trials": at_a_time,
    }
    settings = load_settings(SearchSettings, data=data)
    return Rules(settings, 0.8 if settings.objective.floor else None, exhausted)


def measured(task: Task) -> Outcome:
    """A smooth response: better towards the middle of every number, and slightly with each rung."""
    numbers = [value for value in task.parameters.values() if isinstance(value, int | float)]
    anchor = 0.9 - 0.1 * sum((value - 0.7) ** 2 for value in numbers) + 0.01 * task.rung
    tail = 0.3 + 0.05 * math.sin(10 * sum(numbers)) + 0.01 * task.rung
    metrics = {"objective": (anchor + tail) / 2, "anchor_accuracy": anchor, "tail_macro_recall": tail}
    return Outcome(task=task, metrics=metrics)


def run(
    of: Rules,
    order: random.Random,
    outcomes: dict[int, Outcome] | None = None,
    kill_after: int | None = None,
    response: Callable[[Task], Outcome] = measured,
) -> tuple[list[Task], dict[int, Outcome]]:
    """Run a search whose tasks end in a random order; with kill_after, stop after so many have ended."""
    outcomes = {} if outcomes is None else dict(outcomes)
    tasks: list[Task] = []
    ended = 0
    while kill_after is None or ended < kill_after:
        decision = next_task(of, tasks, outcomes)
        running = [task for task in tasks if task.number not in outcomes]
        if decision == "end":
            assert not running
            break
        if isinstance(decision, Task):
            tasks.append(decision)
            running += [decision] if decision.number not in outcomes else []
            assert len(running) <= of.settings.max_concurrent_trials
        if running and (decision == "wait" or order.random() < 0.5):
            task = order.choice(running)
            outcomes[task.number] = response(task)
            ended += 1
        assert running or decision != "wait", "nothing runs, so nothing can be waited for"
    return tasks, outcomes


KINDS: dict[str, Any] = {
    "grid": (GRID, "grid", "mean"),
    "random": (RANGES, {"name": "random", "seed": 5}, "mean"),
    "tpe": (RANGES, {"name": "optuna", "seed": 5, "startup_trials": 4}, "mean"),
    "floor": (RANGES, {"name": "optuna", "startup_trials": 4}, {"name": "tail", "floor": 0.8}),
}


@pytest.mark.parametrize("going_on_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_row_of_tasks_does_not_depend_on_what_ends_first(kind: str, going_on_first: bool) -> None:
    of = rules(*KINDS[kind], trials=12, going_on_first=going_on_first)
    tasks, _ = run(of, random.Random(0))
    assert len({task.trial for task in tasks}) == 12
    assert run(of, random.Random(1))[0] == tasks


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_five_points_a_search_goes_on_with_the_same_row_and_repeats_nothing(kind: str) -> None:
    of = rules(*KINDS[kind], trials=12)
    whole, outcomes = run(of, random.Random(0))
    for seed in range(5):
        order = random.Random(seed)
        _, before = run(of, order, kill_after=order.randrange(1, len(whole)))
        tasks, after = run(of, order, before)
        assert tasks == whole
        assert after == outcomes
    assert len({(task.trial, task.rung) for task in whole}) == len(whole)


def rising(task: Task) -> Outcome:
    return with_objective(task, task.trial)


def falling(task: Task) -> Outcome:
    return with_objective(task, -task.trial)


def noise(task: Task) -> Outcome:
    return with_objective(task, random.Random(f"{task.trial} {task.rung}").random())


def with_objective(task: Task, value: float) -> Outcome:
    return Outcome(
        task=task, metrics={"objective": value, "anchor_accuracy": value, "tail_macro_recall": value}
    )


@pytest.mark.parametrize("response", [measured, rising, falling, noise])
@pytest.mark.parametrize("going_on_first", [False, True])
def test_of_27_trials_9_go_on_and_3_of_them_to_the_end_whatever_the_order_of_good_ones(
    response: Callable[[Task], Outcome], going_on_first: bool
) -> None:
    of = rules(GRID, going_on_first=going_on_first)
    tasks, _ = run(of, random.Random(0), response=response)
    at = [[task.trial for task in tasks if task.rung == rung] for rung in range(3)]
    assert sorted(at[0]) == list(range(27))
    assert [len(set(trials)) for trials in at] == [len(trials) for trials in at] == [27, 9, 3]


@pytest.mark.parametrize("response", [measured, rising, falling])
def test_where_all_trials_start_first_the_best_one_comes_to_the_end(
    response: Callable[[Task], Outcome],
) -> None:
    of = rules(GRID)
    tasks, outcomes = run(of, random.Random(0), response=response)
    first = {task.trial: outcomes[task.number].metrics["objective"] or 0 for task in tasks if task.rung == 0}
    assert max(first, key=lambda trial: first[trial]) in {task.trial for task in tasks if task.rung == 2}
    assert [task.rung for task in tasks[:27]] == [0] * 27


def test_where_a_budget_may_end_it_something_is_whole_before_all_have_started() -> None:
    of = rules(GRID, going_on_first=True)
    tasks, _ = run(of, random.Random(0))
    first_whole = next(task.number for task in tasks if task.rung == 2)
    assert len({task.trial for task in tasks[:first_whole]}) < 20


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_however_few_trials_there_are_one_comes_to_the_end(trials: int) -> None:
    tasks, _ = run(rules(GRID, trials=trials), random.Random(0))
    assert max(task.rung for task in tasks) == 2
    assert len({task.trial for task in tasks}) == trials


def test_where_the_best_fails_further_up_the_next_goes_on() -> None:
    of = rules(GRID, trials=3, at_a_time=1)
    tasks: list[Task] = []
    outcomes: dict[int, Outcome] = {}
    while isinstance(task := next_task(of, tasks, outcomes), Task):
        tasks.append(task)
        first_promotion = task.rung == 1 and not any(t.rung == 1 for t in tasks[:-1])
        outcomes[task.number] = Outcome(task=task, error="no") if first_promotion else measured(task)
    assert task == "end"
    finished = [t for t in tasks if t.rung == 2 and outcomes[t.number].error is None]
    assert len(finished) == 1


def test_a_budget_that_is_used_up_starts_nothing_further() -> None:
    of = rules(GRID, rungs=1, exhausted=lambda known: len(known) >= 5)
    tasks, _ = run(of, random.Random(0))
    assert len(tasks) == 5 + 2  # two more were running


def test_a_search_whose_trials_all_fail_ends() -> None:
    of = rules(GRID, at_a_time=1)
    tasks: list[Task] = []
    outcomes: dict[int, Outcome] = {}
    while isinstance(task := next_task(of, tasks, outcomes), Task):
        tasks.append(task)
        outcomes[task.number] = Outcome(task=task, error="no")
    assert task == "end"
    assert len(tasks) == 27


def test_no_point_is_tried_twice_and_a_finite_space_runs_out() -> None:
    for name in ("random", "optuna"):
        of = rules({"a": [0, 1, 2], "b": ["x", "y"]}, {"name": name, "startup_trials": 2}, rungs=1, trials=50)
        tasks, _ = run(of, random.Random(3))
        points = [tuple(task.parameters.values()) for task in tasks]
        assert len(points) == len(set(points)) == 6


def test_tpe_finds_more_than_chance() -> None:
    def best(name: str, seed: int) -> float:
        algorithm = AlgorithmSettings.model_validate({"name": name, "seed": seed, "startup_trials": 6})
        space = space_of({"a": {"uniform": [-3.0, 3.0]}, "b": {"uniform": [-3.0, 3.0]}})
        known: list[KnownTrial] = []
        for number in range(30):
            chosen = Proposer(space, algorithm, MEAN).propose(number, known)
            assert chosen is not None
            value = 1 - (chosen["a"] - 1) ** 2 - (chosen["b"] + 1) ** 2
            metrics = {"objective": value, "anchor_accuracy": value, "tail_macro_recall": value}
            known.append((chosen, metrics))
        return max(metrics["objective"] or 0 for _, metrics in known if metrics)

    assert sum(best("optuna", seed) for seed in range(4)) > sum(best("random", seed) for seed in range(4))


def test_tpe_keeps_to_the_floor_more_often_than_chance() -> None:
    """The tail is best where anchors are worst, so only the constraint keeps proposals on the right side."""
    space = space_of({"a": {"uniform": [0.0, 1.0]}})

    def reaching(algorithm: AlgorithmSettings) -> int:
        proposer = Proposer(space, algorithm, ObjectiveSettings(name="tail", floor=0.7), 0.7)
        known: list[KnownTrial] = []
        for number in range(24):
            chosen = proposer.propose(number, known)
            assert chosen is not None
            metrics = {"objective": 0.5, "anchor_accuracy": chosen["a"], "tail_macro_recall": 1 - chosen["a"]}
            known.append((chosen, metrics))
        return sum(parameters["a"] >= 0.7 for parameters, _ in known[6:])

    tpe = AlgorithmSettings(name="optuna", startup_trials=6)
    assert reaching(tpe) > reaching(AlgorithmSettings(name="random")) + 3
