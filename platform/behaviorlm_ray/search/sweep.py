"""Running a search on Ray Tune: tasks as they are decided, told as they end, summarized in the end."""

import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.search import Searcher

from behaviorlm.errors import BehaviorLMError, StorageError
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome, Rules, Task, next_task
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import METRICS, ranked
from behaviorlm_ray.search.proposals import Proposer
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.task import OUTCOME, TROUBLE, run_task
from behaviorlm_ray.search.trial import RESOURCES
from behaviorlm_ray.storage import Location

Ending = Literal["whole", "budget", "time", "interrupted"]
"""Why a search ended: nothing was left to do, a budget or its wall time was used up, or it was interrupted."""


@dataclass(frozen=True)
class Ran:
    """The tasks of a search so far, and why no further one was started."""

    tasks: list[Task]
    ending: Ending


def run_tasks(
    settings: SearchSettings,
    run: Mapping[str, Any],
    ledger: Ledger,
    floor: float | None,
    costs: StageCosts,
    reference: Outcome | None = None,
    deadline: float | None = None,
) -> Ran:
    """Run what has not ended yet, until the search ends, is interrupted or its time is over.

    reference: what the floor is relative to, a part of what is spent. deadline: by the monotonic clock. Raises
    StorageError if storage failed a task, which is not recorded then, or the ledger.
    """
    rules = rules_of(settings, floor, costs, reference)
    row = TaskRow(rules, ledger, deadline)
    if row.decide() == "end":
        return Ran(row.tasks, row.ending())
    # the newer output prints a header, with 2**63 - 1 trials, even when it is not verbose
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    tuner = tune.Tuner(
        tune.with_resources(run_task, tune.PlacementGroupFactory([RESOURCES | settings.resources_per_trial])),
        tune_config=tune.TuneConfig(
            search_alg=TaskSearcher(row, run, settings),
            num_samples=-1,
            time_budget_s=None if deadline is None else max(1.0, deadline - time.monotonic()),
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
    if row.trouble is not None:
        raise StorageError(
            f"{row.trouble}\nthe search stopped there; the same command goes on with it"
        ) from row.trouble
    return Ran(row.tasks, row.ending())


def _tune_folder(folder: Location) -> Path:
    """Where Tune keeps its own state. What a search needs is in the ledger, so it is needed on one node only."""
    return (
        folder / "tune" if isinstance(folder, Path) else Path(tempfile.gettempdir()) / "behaviorlm-ray-tune"
    )


def rules_of(
    settings: SearchSettings, floor: float | None, costs: StageCosts, reference: Outcome | None = None
) -> Rules:
    """What the search's decisions follow from."""
    budget = settings.budget

    def is_exhausted(outcomes: Sequence[Outcome]) -> bool:
        spent = costs.spent([*outcomes, *([] if reference is None else [reference])])
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
        going_on_first=budget.may_end_before_all_trials,
        exhausted=is_exhausted,
    )


class TaskRow:
    """The row of tasks of one search. State: the tasks so far, one that is decided but not started, whether it ends.

    deadline: by the monotonic clock; nothing is started after it. trouble: what went wrong with the search itself.
    """

    def __init__(self, rules: Rules, ledger: Ledger, deadline: float | None = None) -> None:
        self.tasks: list[Task] = []
        self.trouble: BehaviorLMError | None = None
        self._rules, self._ledger, self._deadline = rules, ledger, deadline
        self._next: Task | None = None
        self._is_stopped = False

    def stop(self, trouble: BehaviorLMError | None = None) -> None:
        """Start nothing further: a task was cut off, so the search is being ended, or it is in trouble."""
        self._is_stopped = True
        self.trouble = self.trouble or trouble

    def decide(self) -> Task | str:
        """The next task to run, "wait" or "end". Tasks that ended in an earlier call are passed over."""
        while True:
            known = None if self._next else self._ledger.outcomes.get(len(self.tasks))
            if known is not None:
                self.tasks.append(known.task)
                continue
            if self._is_stopped or self._is_late():
                return "end"
            if self._next is not None:
                return self._next
            decided = self._ledger.decided.get(len(self.tasks))
            if decided is not None and len(self._running()) >= self._rules.at_a_time:
                return "wait"  # it was decided when more ran at a time
            decision = decided or next_task(self._rules, self.tasks, self._ledger.outcomes)
            if isinstance(decision, str):
                return decision
            self._next = decision

    def start(self) -> Task | str:
        """The same, and the task is recorded as decided and counts as started. Raises StorageError."""
        decision = self.decide()
        if isinstance(decision, Task):
            decision = self._ledger.decide(decision)
            self.tasks.append(decision)
            self._next = None
        return decision

    def ending(self) -> Ending:
        """Why the search ended; of one in which no task runs any more."""
        if self._running() or next_task(self._rules, self.tasks, self._ledger.outcomes) != "end":
            return "time" if self._is_late() else "interrupted"
        endless = replace(self._rules, exhausted=lambda outcomes: False)
        return "whole" if next_task(endless, self.tasks, self._ledger.outcomes) == "end" else "budget"

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _running(self) -> list[Task]:
        return [task for task in self.tasks if task.number not in self._ledger.outcomes]

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
        try:
            decision = self._row.start()
        except StorageError as error:  # Tune would only log it
            self._row.stop(error)
            return Searcher.FINISHED
        if isinstance(decision, Task):
            self._running[trial_id] = decision
            return {
                "run": dict(self._run),
                "search": self._settings.name,
                "scheduler": self._settings.scheduler.model_dump(mode="json"),
                "task": decision.model_dump(mode="json"),
                "retries": self._settings.retries,
            }
        return Searcher.FINISHED if decision == "end" else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A task that ended is recorded; one that was cut off is not, and is run again another time."""
        task = self._running[trial_id]
        result = result or {}
        try:
            if OUTCOME in result:
                self._row.end(Outcome.model_validate_json(result[OUTCOME]))
            elif TROUBLE in result:
                self._row.stop(StorageError(f"trial {task.trial + 1}: {result[TROUBLE]}"))
            elif error:
                died = f"its process died, also when it was started again ({self._settings.retries} time(s))"
                self._row.end(Outcome(task=task, error=died))
            else:
                self._row.stop()
        except StorageError as unwritten:  # Tune would run the trial again
            self._row.stop(unwritten)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has all of it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


def describe(parameters: Mapping[str, Any]) -> str:
    """`selection.balance=0.3, auxiliary.0.weight=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def described_metrics(metrics: Mapping[str, Any]) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    return ", ".join(
        f"{name} {'none' if metrics.get(name) is None else format(metrics[name], '.4f')}" for name in METRICS
    )
