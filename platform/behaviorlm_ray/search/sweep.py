"""Running a search on Ray Tune: tasks as they are decided, recorded and told as they end."""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from behaviorlm.errors import StorageError
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Decision, Ending, Outcome, Rules, Task, next_task
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import described_metrics
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.space import describe
from behaviorlm_ray.search.trial import OUTCOME, RESOURCES, TROUBLE, run_task


def run_tasks(settings: SearchSettings, run: Mapping[str, Any], row: "TaskRow") -> None:
    """Run what has not ended yet, until the search ends, is interrupted or its time is over.

    Raises StorageError if storage failed a task, which is not recorded then, or the ledger.
    """
    if row.decide() == "end":
        return
    # the newer output prints a header, with 2**63 - 1 trials, even when it is not verbose
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # What a search needs is in the ledger: Tune's own state goes with the call, and is needed on one node only.
    with tempfile.TemporaryDirectory(prefix="behaviorlm-tune-", ignore_cleanup_errors=True) as folder:
        tune.Tuner(
            tune.with_resources(run_task, RESOURCES),
            tune_config=tune.TuneConfig(
                search_alg=TaskSearcher(row, run, settings),
                num_samples=-1,
                time_budget_s=None if row.deadline is None else max(1.0, row.deadline - time.monotonic()),
                trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
                reuse_actors=True,  # a process imports for seconds; nothing of a task stays in it
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=settings.retries),  # for processes that die
            ),
        ).fit()
    if row.trouble is not None:
        raise StorageError(
            f"{row.trouble}\nthe search stopped there; the same command goes on with it"
        ) from row.trouble


def rules_of(
    settings: SearchSettings, floor: float | None, costs: StageCosts, reference: Outcome | None = None
) -> Rules:
    """What the search's decisions follow from. reference: what the floor is relative to, a part of what is spent."""
    paid, limit = ([] if reference is None else [reference]), settings.budget.tokens

    def is_exhausted(outcomes: Sequence[Outcome]) -> bool:
        return limit is not None and costs.spent([*outcomes, *paid]) >= limit

    return Rules(settings, floor, is_exhausted)


class TaskRow:
    """The row of tasks of one search. State: the tasks that have started, whether no further one does.

    deadline: by the monotonic clock; nothing is started after it. trouble: what went wrong with the search itself.
    """

    def __init__(self, rules: Rules, ledger: Ledger, deadline: float | None = None) -> None:
        self.ledger, self.deadline = ledger, deadline
        self.tasks: list[Task] = []
        self.trouble: StorageError | None = None
        self._rules = rules
        self._is_stopped = False

    def stop(self, trouble: StorageError | None = None) -> None:
        """Start nothing further: a task was cut off, so the search is being ended, or it is in trouble."""
        self._is_stopped = True
        self.trouble = self.trouble or trouble

    def decide(self) -> Decision:
        """The next task to run, "wait" or "end". Tasks that ended in an earlier call are passed over."""
        while (known := self.ledger.outcomes.get(len(self.tasks))) is not None:
            self.tasks.append(known.task)
        if self._is_stopped or self._is_late():
            return "end"
        decided = self.ledger.decided.get(len(self.tasks))
        if decided is None:
            return next_task(self._rules, self.tasks, self.ledger.outcomes)
        # it may have been decided when more ran at a time
        return "wait" if len(self._running()) >= self._rules.settings.max_concurrent_trials else decided

    def start(self) -> Decision:
        """The same, and the task is recorded as decided and counts as started. Raises StorageError."""
        decision = self.decide()
        if isinstance(decision, Task):
            decision = self.ledger.decide(decision)
            self.tasks.append(decision)
        return decision

    def end(self, outcome: Outcome) -> None:
        """Record how a task ended and say so. Raises StorageError."""
        self.ledger.record(outcome)
        task = outcome.task
        rungs = self._rules.settings.scheduler.number_of_rungs
        at = f" at rung {task.rung + 1} of {rungs}" if rungs > 1 else ""
        result = f"failed: {outcome.error}" if outcome.error else described_metrics(outcome.metrics)
        screen().says(f"trial {task.trial + 1}{at}, {describe(task.parameters)}: {result}")

    def outcomes(self) -> list[Outcome]:
        """How those of the tasks ended that did, in their order."""
        ended = self.ledger.outcomes
        return [ended[task.number] for task in self.tasks if task.number in ended]

    def ending(self) -> Ending:
        """Why the search ended; of one in which no task runs any more."""
        if self._running() or next_task(self._rules, self.tasks, self.ledger.outcomes) != "end":
            return "time" if self._is_late() else "interrupted"
        endless = replace(self._rules, exhausted=lambda outcomes: False)
        return "whole" if next_task(endless, self.tasks, self.ledger.outcomes) == "end" else "budget"

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _running(self) -> list[Task]:
        return [task for task in self.tasks if task.number not in self.ledger.outcomes]


class TaskSearcher(Searcher):
    """Hands Tune the row of tasks. State: the task of each of Tune's trials."""

    def __init__(self, row: TaskRow, run: Mapping[str, Any], settings: SearchSettings) -> None:
        super().__init__()
        self._row, self._run, self._settings = row, run, settings
        self._running: dict[str, Task] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next task as a configuration of `run_task`; None to wait."""
        try:
            decision = self._row.start()
        except StorageError as error:  # Tune would only log it
            self._row.stop(error)
            decision = "end"
        if not isinstance(decision, Task):
            return Searcher.FINISHED if decision == "end" else None
        self._running[trial_id] = decision
        return {
            "run": dict(self._run),
            "search": self._settings.name,
            "scheduler": self._settings.scheduler.model_dump(mode="json"),
            "task": decision.model_dump(mode="json"),
            "retries": self._settings.retries,
        }

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
