"""Running a search on Ray Tune: tasks as they are decided, told as they end, summarized in the end."""

import os
import tempfile
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.search import Searcher

from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError, DataError, ModelError
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome, Rules, Task, next_task
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import METRICS, ranked
from behaviorlm_ray.search.proposals import Proposer
from behaviorlm_ray.search.scheduler import SchedulerSettings
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.trial import RESOURCES, measure_at, open_trial, quieten, stages_at
from behaviorlm_ray.storage import Location

OUTCOME = "outcome"
FOR_GOOD = (ConfigError, DataError, ModelError)
"""Errors that the same trial would meet again: not retried."""


def run_tasks(
    settings: SearchSettings, run: Mapping[str, Any], ledger: Ledger, floor: float | None, costs: StageCosts
) -> list[Task]:
    """Run what has not ended yet, until the search ends, is interrupted or its time is over. Returns all tasks."""
    rules = rules_of(settings, floor, costs)
    deadline = (
        None if settings.budget.wall_seconds is None else time.monotonic() + settings.budget.wall_seconds
    )
    row = TaskRow(rules, ledger, deadline)
    if row.decide() == "end":
        return row.tasks
    # the newer output prints a header, with 2**63 - 1 trials, even when it is not verbose
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    tuner = tune.Tuner(
        tune.with_resources(run_task, tune.PlacementGroupFactory([RESOURCES | settings.resources_per_trial])),
        tune_config=tune.TuneConfig(
            search_alg=TaskSearcher(row, run, settings),
            num_samples=-1,
            time_budget_s=settings.budget.wall_seconds,
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
            reuse_actors=True,  # a process imports for seconds; nothing of a task stays in it
        ),
        # A name that was used before would go on with that search's trials; ours is in the ledger.
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(_tune_folder(ledger.folder.parent)),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=settings.retries),  # for processes that die
        ),
    )
    tuner.fit()
    return row.tasks


def _tune_folder(folder: Location) -> Path:
    """Where Tune keeps its own state. What a search needs is in the ledger, so it is needed on one node only."""
    return (
        folder / "tune" if isinstance(folder, Path) else Path(tempfile.gettempdir()) / "behaviorlm-ray-tune"
    )


def rules_of(settings: SearchSettings, floor: float | None, costs: StageCosts) -> Rules:
    """What the search's decisions follow from."""
    budget = settings.budget

    def is_exhausted(outcomes: Sequence[Outcome]) -> bool:
        spent = costs.spent(outcomes)
        return any(
            limit is not None and used >= limit
            for used, limit in (
                (spent.tokens, budget.tokens),
                (spent.sample_epochs, budget.sample_epochs),
                (spent.gpu_hours, budget.gpu_hours),
            )
        )

    proposer = Proposer(settings.space, settings.algorithm, settings.objective, floor)
    return Rules(
        propose=proposer.propose,
        ranked=lambda trials: ranked(settings.objective, floor, trials),
        trials=budget.trials,
        rungs=settings.scheduler.number_of_rungs,
        reduction=settings.scheduler.reduction,
        at_a_time=settings.max_concurrent_trials,
        exhausted=is_exhausted,
    )


class TaskRow:
    """The row of tasks of one search. State: the tasks so far, one that is decided but not started, whether it ends.

    deadline: by the monotonic clock; nothing is started after it.
    """

    def __init__(self, rules: Rules, ledger: Ledger, deadline: float | None = None) -> None:
        self.tasks: list[Task] = []
        self._rules, self._ledger, self._deadline = rules, ledger, deadline
        self._next: Task | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Start nothing further: a task was cut off, so the search is being ended."""
        self._is_stopped = True

    def decide(self) -> Task | str:
        """The next task to run, "wait" or "end". Tasks that ended in an earlier call are passed over."""
        while True:
            if self._is_stopped:
                return "end"
            if self._next is not None:
                return self._next
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return "end"
            known = self._ledger.outcomes.get(len(self.tasks))
            decision = known.task if known else next_task(self._rules, self.tasks, self._ledger.outcomes)
            if isinstance(decision, str):
                return decision
            if known is None:
                self._next = decision
            else:
                self.tasks.append(decision)

    def start(self) -> Task | str:
        """The same, and the task counts as started."""
        decision = self.decide()
        if isinstance(decision, Task):
            self.tasks.append(decision)
            self._next = None
        return decision

    def end(self, outcome: Outcome) -> None:
        """Record how a task ended and say so."""
        self._ledger.record(outcome)
        task = outcome.task
        at = f" at rung {task.rung + 1} of {self._rules.rungs}" if self._rules.rungs > 1 else ""
        result = f"failed: {outcome.error}" if outcome.error else described_metrics(outcome.metrics)
        print(f"trial {task.trial + 1}{at}, {describe(task.parameters)}: {result}", flush=True)


class TaskSearcher(Searcher):
    """Hands Tune the row of tasks. State: the task of each of Tune's trials."""

    def __init__(self, row: TaskRow, run: Mapping[str, Any], settings: SearchSettings) -> None:
        super().__init__()
        self._row, self._run, self._settings = row, run, settings
        self._running: dict[str, Task] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """The space is ours, not Tune's."""
        return not config

    def suggest(self, trial_id: str) -> Any:
        """The next task as a configuration of `run_task`; None to wait."""
        decision = self._row.start()
        if isinstance(decision, Task):
            self._running[trial_id] = decision
            return {
                "run": dict(self._run),
                "scheduler": self._settings.scheduler.model_dump(mode="json"),
                "task": decision.model_dump(mode="json"),
                "retries": self._settings.retries,
            }
        return Searcher.FINISHED if decision == "end" else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A task that ended is recorded; one that was cut off is not, and is run again another time."""
        task = self._running.pop(trial_id)
        if result is not None and OUTCOME in result:
            self._row.end(Outcome.model_validate_json(result[OUTCOME]))
        elif error:
            died = f"its process died, also when it was started again ({self._settings.retries} time(s))"
            self._row.end(Outcome(task=task, error=died))
        else:
            self._row.stop()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has all of it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


def run_task(config: dict[str, Any]) -> None:
    """Run one task in a process of Tune and report its outcome; its own failure is an outcome, too."""
    quieten()
    task = Task.model_validate(config["task"])
    tune.report({OUTCOME: _outcome(config, task).model_dump_json()})  # as text: Tune flattens what is nested


def _outcome(config: Mapping[str, Any], task: Task) -> Outcome:
    scheduler = SchedulerSettings.model_validate(config["scheduler"])
    attempt = 0
    while True:
        pipeline: Pipeline | None = None
        try:
            pipeline = open_trial(config["run"], task.parameters)
            found = measure_at(pipeline, scheduler, task.rung)
            return Outcome(
                task=task,
                metrics={name: found[name] for name in METRICS},
                steps=found["steps"],
                steps_of_whole=found["steps_of_whole"],
                stages=found["stages"],
            )
        except Exception as error:
            attempt += 1
            if isinstance(error, FOR_GOOD) or attempt > config["retries"]:
                stages = {} if pipeline is None else stages_at(pipeline, None)
                return Outcome(task=task, error=reason(error), stages=stages)
            traceback.print_exc()
            print(f"trial {task.trial + 1}: {reason(error)}; trying again from its checkpoints", flush=True)


def reason(error: BaseException) -> str:
    """The project's own error inside what came up, else the last line of it."""
    cause: BaseException | None = error
    while cause is not None:
        # What Ray raises is both the project's error and Ray's, which speaks of tracebacks: the one inside is meant.
        if isinstance(cause, BehaviorLMError) and not isinstance(cause, RayTaskError):
            return str(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def nothing_finished(outcomes: Sequence[Outcome], budget_is_over: bool) -> BehaviorLMError:
    """The error of a search in which no trial was tuned whole."""
    errors = list(dict.fromkeys(outcome.error for outcome in outcomes if outcome.error))
    if budget_is_over and not errors:
        return ClusterError(
            "the budget was used up before one trial was tuned whole; raise budget and run the same command again: "
            "it goes on from what is finished"
        )
    return ClusterError("\n".join(["no trial was tuned whole", *errors]))


def describe(parameters: Mapping[str, Any]) -> str:
    """`selection.balance=0.3, auxiliary.0.weight=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def described_metrics(metrics: Mapping[str, Any]) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    return ", ".join(
        f"{name} {'none' if metrics.get(name) is None else format(metrics[name], '.4f')}" for name in METRICS
    )
