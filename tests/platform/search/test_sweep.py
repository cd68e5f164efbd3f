"""Running the row of tasks: what a killed search repeats, why one ended, what its own troubles do."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import StorageError
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.findings import Findings, budget_ended, trials_of
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.sweep import TaskRow, TaskSearcher, rules_of
from behaviorlm_ray.search.trial import OUTCOME, TROUBLE
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.storage import write_replacing
from tests.platform.single_stage import run_stage

SPACE = {"selection.balance": [0.1, 0.5, 0.9], "auxiliary.0.weight": [0.1, 0.2, 0.4]}


def settings_of(**keys: Any) -> SearchSettings:
    data = {"name": "s", "space": SPACE, "scheduler": "asha", "max_concurrent_trials": 3} | keys
    return load_settings(SearchSettings, data=data)


def row_of(settings: SearchSettings, folder: Path, deadline: float | None = None) -> TaskRow:
    costs = StageCosts(folder)
    return TaskRow(rules_of(settings, None, costs), Ledger(folder / "tasks"), deadline)


def outcome_of(task: Task) -> Outcome:
    value = random.Random(f"{task.trial} {task.rung}").random()
    return Outcome(
        task=task, metrics={"objective": value, "anchor_accuracy": value, "tail_macro_recall": value}
    )


def run_row(row: TaskRow, at_a_time: int, order: random.Random, kill_after: int | None = None) -> list[Task]:
    """Run it; with kill_after, stop when so many have ended. Returns the tasks that this call ran to their end."""
    running: list[Task] = []
    ended: list[Task] = []
    while kill_after is None or len(ended) < kill_after:
        decision = row.start()
        if isinstance(decision, Task):
            running.append(decision)
            assert len(running) <= at_a_time
            continue
        if not running:
            assert decision == "end"
            break
        task = running.pop(order.randrange(len(running)))
        row.end(outcome_of(task))
        ended.append(task)
    return ended


@pytest.mark.parametrize("then", [1, 2, 6])
@pytest.mark.parametrize("seed", range(6))
def test_killed_and_gone_on_with_more_or_fewer_at_a_time_no_trial_is_lost_or_runs_twice(
    seed: int, then: int, tmp_path: Path
) -> None:
    order = random.Random(seed)
    before = run_row(row_of(settings_of(), tmp_path), 3, order, kill_after=order.randrange(1, 12))
    row = row_of(settings_of(max_concurrent_trials=then), tmp_path)
    after = run_row(row, then, order)
    ran = [(task.trial, task.rung) for task in before + after]
    assert len(set(ran)) == len(ran)
    assert {trial for trial, rung in ran if rung == 0} == set(range(9))
    assert sum(rung == 1 for _, rung in ran) == 3 and sum(rung == 2 for _, rung in ran) == 1
    assert row.ending() == "whole"


def test_what_ran_when_it_was_killed_runs_again_as_it_was(tmp_path: Path) -> None:
    first = row_of(settings_of(), tmp_path)
    started = [first.start() for _ in range(3)]
    again = row_of(settings_of(), tmp_path)
    assert [again.start() for _ in range(3)] == started
    assert again.start() == "wait"


def test_a_search_says_why_it_ended(tmp_path: Path) -> None:
    row = row_of(settings_of(scheduler="none"), tmp_path)
    task = row.start()
    assert isinstance(task, Task)
    row.stop()
    assert row.ending() == "interrupted"
    late = row_of(settings_of(scheduler="none"), tmp_path, deadline=time.monotonic())
    assert late.decide() == "end" and late.ending() == "time"
    whole = row_of(settings_of(scheduler="none"), tmp_path, deadline=time.monotonic() + 600)
    run_row(whole, 3, random.Random(0))
    assert whole.ending() == "whole"
    again = row_of(settings_of(scheduler="none"), tmp_path, deadline=time.monotonic())
    assert again.decide() == "end"
    assert again.tasks == whole.tasks and again.ending() == "whole"  # what ended is known, however late it is


def committed(root: Path, name: str, tokens: float) -> str:
    """A finished stage of these tokens; the name of its folder."""

    def write(folder: StageFolder) -> StageResult:
        write_replacing(folder.output / "x", name.encode())
        return StageResult(cost={"tokens": tokens})

    return run_stage(root, name, 1, {}, {}, write).folder.parents[1].name


def test_a_budget_that_is_used_up_is_told_with_what_it_left_out(tmp_path: Path) -> None:
    settings = settings_of(scheduler="none", budget={"tokens": 250}, max_concurrent_trials=1)
    row = row_of(settings, tmp_path)
    while isinstance(task := row.start(), Task):
        stages = {"b_tune": committed(tmp_path, f"b_tune_{task.trial}", 100)}
        row.end(outcome_of(task).model_copy(update={"stages": stages}))
    assert len(row.tasks) == 3 and row.ending() == "budget"
    costs = StageCosts(tmp_path)
    trials = trials_of(row.tasks, row.ledger.outcomes, 1, costs)
    found = Findings(settings, trials, row.outcomes(), costs, ending=row.ending())
    assert "3 trials were tuned whole, 0 were not, 6 of 9 never began" in budget_ended(found)


def searcher(row: TaskRow, settings: SearchSettings) -> TaskSearcher:
    return TaskSearcher(row, {}, settings)


def test_a_task_that_storage_failed_stops_the_search_and_is_not_recorded(tmp_path: Path) -> None:
    settings = settings_of()
    row = row_of(settings, tmp_path)
    tune = searcher(row, settings)
    tune.suggest("a")
    tune.suggest("b")
    tune.on_trial_complete("a", {TROUBLE: "s3://bucket does not answer"})
    assert str(row.trouble) == "trial 1: s3://bucket does not answer"
    tune.on_trial_complete("b", {OUTCOME: outcome_of(row.tasks[1]).model_dump_json()})
    assert tune.suggest("c") == "FINISHED"
    assert Ledger(tmp_path / "tasks").outcomes.keys() == {1}


def test_a_ledger_that_cannot_be_written_stops_the_search(tmp_path: Path) -> None:
    settings = settings_of()
    row = row_of(settings, tmp_path)
    tune = searcher(row, settings)
    tune.suggest("a")
    shutil.rmtree(tmp_path / "tasks")
    (tmp_path / "tasks").write_bytes(b"")  # a file where the folder should be
    tune.on_trial_complete("a", {OUTCOME: outcome_of(row.tasks[0]).model_dump_json()})
    assert isinstance(row.trouble, StorageError)
    assert tune.suggest("b") == "FINISHED"
