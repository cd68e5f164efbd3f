"""One task of a search in a process of Tune: how it ended, and what is no end of it but trouble with storage."""

import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError

from behaviorlm.errors import BehaviorLMError, ConfigError, DataError, ModelError, StorageError
from behaviorlm.files.clock import SYSTEM_CLOCK, Clock
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.settings import SchedulerSettings, trial_settings
from behaviorlm_ray.search.trial import Trial, measure, open_trial, quieten

OUTCOME, TROUBLE = "outcome", "trouble"
FOR_GOOD = (ConfigError, DataError, ModelError)
"""Errors that the same trial would meet again: not retried."""
STORAGE_PAUSE = 5.0
"""Seconds between attempts of a task at storage that does not answer."""


def run_task(config: dict[str, Any]) -> None:
    """Run one task in a process of Tune and report its outcome; its own failure is an outcome, too."""
    quieten()
    task = Task.model_validate(config["task"])
    try:
        # as text: Tune flattens what is nested
        tune.report({OUTCOME: _outcome(config, task).model_dump_json()})
    except StorageError as error:
        tune.report({TROUBLE: str(error)})


def _outcome(config: Mapping[str, Any], task: Task) -> Outcome:
    """How the task ended. Raises StorageError if storage fails: that says nothing of the trial."""
    scheduler = SchedulerSettings.model_validate(config["scheduler"])
    attempt = 0
    while True:
        trial: Trial | None = None
        try:
            trial = open_patiently(config, task)
            return measure(trial, scheduler, task)
        except Exception as error:
            attempt += 1
            of_storage = storage_error(error)
            if of_storage is not None and attempt > config["retries"]:
                raise of_storage from error
            if of_storage is None and (isinstance(error, FOR_GOOD) or attempt > config["retries"]):
                stages = {} if trial is None else trial.stages
                return Outcome(task=task, error=reason(error), stages=stages)
            traceback.print_exc()
            print(f"trial {task.trial + 1}: {reason(error)}; trying again from its checkpoints", flush=True)


def open_patiently(config: Mapping[str, Any], task: Task, clock: Clock = SYSTEM_CLOCK) -> Trial:
    """The trial. Storage was looked at before the search began: it is given time to come back.

    Raises ConfigError as `open_trial` does; where storage is its cause, only when the storage's patience is over.
    """
    patient_until = clock.monotonic() + config["run"]["storage"]["patience_seconds"]
    while True:
        try:
            settings = trial_settings(config["run"], task.parameters)
            return open_trial(settings, settings.storage.place / config["search"])
        except ConfigError as error:
            if storage_error(error) is None or clock.monotonic() >= patient_until:
                raise
            print(f"trial {task.trial + 1}: {reason(error)}; trying again", flush=True)
            clock.sleep(STORAGE_PAUSE)


def storage_error(error: BaseException) -> StorageError | None:
    """The trouble with storage that an error is, or of which it came; None if it came of something else."""
    own = _own_error(error)
    return next((cause for cause in _causes(own) if isinstance(cause, StorageError)), None)


def reason(error: BaseException) -> str:
    """The project's own error inside what came up, else the last line of it."""
    lines = str(_own_error(error) or str(error).strip().rpartition("\n")[2])
    return lines or type(error).__name__


def _own_error(error: BaseException) -> BehaviorLMError | None:
    """What Ray raises is both the project's error and Ray's, which speaks of tracebacks: the one inside is meant."""
    own = (cause for cause in _causes(error) if isinstance(cause, BehaviorLMError))
    return next((cause for cause in own if not isinstance(cause, RayTaskError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came of, and so on."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__
