"""One trial of a search: a run with some keys changed, measured on validation at each rung of its B-Tuning.

All that a search asks of a run's stages it asks here. A task of a search is one trial up to one rung, in a process of
Tune; how it ended is its outcome, but for trouble with storage, which is nobody's failure.
"""

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import ray.data
from ray import tune
from ray.exceptions import RayTaskError

from behaviorlm.config import validate_settings
from behaviorlm.errors import BehaviorLMError, ConfigError, DataError, ModelError, StorageError
from behaviorlm.files.clock import SYSTEM_CLOCK, Clock
from behaviorlm.files.patient_reads import repeat_patiently
from behaviorlm_ray.cluster.failures import causes
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.pipeline.b_tune import b_tune
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.select import select
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tuning_plan import steps_of
from behaviorlm_ray.pipeline.validate import validate, validate_rung
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.objective import METRICS
from behaviorlm_ray.search.settings import WINNING_ARM, SchedulerSettings, trial_settings
from behaviorlm_ray.search.space import Parameters
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage
from behaviorlm_ray.storage import Location, read_text
from behaviorlm_ray.tracking.registering import tell_results
from behaviorlm_ray.tracking.tracking import tracked

Error = TypeVar("Error", bound=BehaviorLMError)
OUTCOME, TROUBLE = "outcome", "trouble"
FOR_GOOD = (ConfigError, DataError, ModelError)
"""Errors that the same trial would meet again: not retried."""
# A trial only waits for Ray Train and Ray Data, which ask for CPUs and GPUs of their own. With a CPU of its own it
# would wait forever where theirs take all. Tune wants some resource: one byte of memory.
RESOURCES = tune.PlacementGroupFactory([{"memory": 1}])


def trainable(config: dict[str, Any]) -> None:
    """Run the stages of a trial, or reuse them, and report its objective; for a `ray.tune.Tuner` of your own.

    config: {"run": a run's configuration as a nested dictionary (see RunSettings), "overrides": {dotted key: value},
    "scheduler": optional, rungs at which to report (see SchedulerSettings; without it: once, in the end)}. Each report
    has "objective" (greater is better), its parts "anchor_accuracy" and "tail_macro_recall", all on validation samples;
    "rung" (from 1) and "rungs", "steps" and "steps_of_whole" of B-Tuning; and "stages": {stage: its folder's name}. A
    scheduler that stops the trial after a report saves the rest; a trial that is run again goes on from the rungs that
    it has reached. Stages are shared with all trials and runs of the same storage.root, which every node must reach;
    paths must be absolute. It asks Tune for no CPU: leave the cluster's to the stages. Raises the project's errors.
    """
    quieten()
    scheduler = validate_settings(SchedulerSettings, config.get("scheduler") or {}, "scheduler")
    opened = open_trial(trial_settings(config["run"], config["overrides"]))
    for rung in range(scheduler.number_of_rungs):
        task = Task(number=rung, trial=0, rung=rung, parameters=config["overrides"])
        outcome = measure(opened, scheduler, task)
        told = outcome.model_dump(include={"steps", "steps_of_whole", "stages"})
        tune.report({**outcome.metrics, "rung": rung + 1, "rungs": scheduler.number_of_rungs, **told})


tune.with_resources(trainable, RESOURCES)  # sets an attribute that Tune looks for


def quieten() -> None:
    """Leave the log to progress lines: many trials share it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """A trial's run and what runs its stages."""

    run: Run
    runner: Runner


def open_trial(settings: RunSettings, record_in: Location | None = None) -> Trial:
    """The trial with these settings, all that it reads from outside looked at. Raises ConfigError.

    record_in: where it is written which stages were asked for; None: the folder of its run.
    """
    run = open_run(settings)
    check_inputs(run, is_written=True)
    return Trial(run, run.runner(RunRecord(record_in or run.output_folder)))


def measure(trial: Trial, scheduler: SchedulerSettings, task: Task) -> Outcome:
    """Bring a trial to a rung and measure it there. Needs an initialized Ray. Raises the project's errors."""
    run, runner = trial.run, trial.runner
    steps, _ = steps_of(run.settings.b_tuning, runner.run(select(run)).manifest.rows["samples"])
    *earlier, stop = sorted({scheduler.stop_step(rung, steps) for rung in range(task.rung + 1)})
    tuned: Stage | None = None
    for step in earlier:
        tuned = b_tune(run, step, tuned)
    is_whole = stop == steps
    goal = (
        validate(run, WINNING_ARM, tuned) if is_whole else validate_rung(run, stop, b_tune(run, stop, tuned))
    )
    metrics = _metrics(runner.run(goal))
    stages = _folders(runner.named(goal))
    return Outcome(task=task, metrics=metrics, steps=stop, steps_of_whole=steps, stages=stages)


def measure_arm(base: Trial, arm: str) -> Outcome:
    """An arm of a run on validation, as an outcome of no task. Raises ConfigError."""
    run = base.run.for_arm(arm)
    check_inputs(run, is_written=True)
    runner = run.runner(base.runner.record)
    metrics = _metrics(runner.run(validate(run, base.run.settings.all_arms[arm].tuning)))
    task = Task(number=-1, trial=-1, rung=0, parameters={})
    return Outcome(task=task, metrics=metrics, stages=_folders(runner.outputs))


def planned_stages(run: Mapping[str, Any], parameters: Parameters) -> Iterator[tuple[str, str, bool]]:
    """Name of each stage of a trial tuned whole, a hash of what it is made from, whether it is there already."""
    trial = open_run(trial_settings(run, parameters))
    for stage, plan in trial.runner().plan(validate(trial, WINNING_ARM)):
        yield plan.name, stage.recipe, plan.output is not None


def run_winner(winner: RunSettings) -> tuple[dict[str, Any], list[str]]:
    """The winner's own run to the end: its endpoint on test and where its report is; and that report in lines."""
    trial = open_trial(winner)
    with tracked(trial.run) as tracking:
        trial.runner.follow = tracking.stage_ended
        report = write_results(trial.run, trial.runner)
        tell_results(trial.run, tracking)
    measured = json.loads(read_text(report.place.parent / "results.json"))["models"][WINNING_ARM]
    names = ("anchor_accuracy", "tail_macro_recall")
    found = {name: measured[group][metric] for name, (group, metric) in zip(names, PRIMARY, strict=True)}
    return found | {"report": str(report.place)}, [*report.lines, *tracking.lines]


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
            of_storage, is_last = storage_error(error), attempt >= config["retries"]
            if of_storage is not None and is_last:
                raise of_storage from error
            if is_last or (of_storage is None and isinstance(error, FOR_GOOD)):
                stages = {} if trial is None else _folders(trial.runner.outputs)
                return Outcome(task=task, error=reason(error), stages=stages)
            traceback.print_exc()
            print(f"trial {task.trial + 1}: {reason(error)}; trying again from its checkpoints", flush=True)
        attempt += 1


def open_patiently(config: Mapping[str, Any], task: Task, clock: Clock = SYSTEM_CLOCK) -> Trial:
    """The trial. Storage was looked at before the search began: it is given time to come back.

    Raises ConfigError as `open_trial` does; where storage is its cause, only when the storage's patience is over.
    """

    def opened(repeats: int) -> Trial:
        settings = trial_settings(config["run"], task.parameters)
        return open_trial(settings, settings.storage.place / config["search"])

    def judge(error: Exception, repeats: int, is_over: bool) -> str:
        if is_over or storage_error(error) is None:
            raise error
        return f"trial {task.trial + 1}: {reason(error)}"

    return repeat_patiently(opened, judge, config["run"]["storage"]["patience_seconds"], clock)


def storage_error(error: BaseException) -> StorageError | None:
    """The trouble with storage that an error is, or of which it came; None if it came of something else."""
    return _cause(error, StorageError)


def reason(error: BaseException) -> str:
    """The project's own error inside what came up, else the last line of it."""
    own = _cause(error, BehaviorLMError)
    return str(own or str(error).strip().rpartition("\n")[2]) or type(error).__name__


def _cause(error: BaseException, kind: type[Error]) -> Error | None:
    """The first of a kind that an error is or came of, but for what Ray makes of one, which is of its kind too."""
    of_kind = (each for each in causes(error) if isinstance(each, kind))
    return next((each for each in of_kind if not isinstance(each, RayTaskError)), None)


def _folders(outputs: Mapping[str, StageOutput]) -> dict[str, str]:
    """Names of the stages' folders, by stage."""
    # .../stages/<stage>-<fingerprint>/attempts/<attempt>
    return {output.manifest.stage: output.folder.parents[1].name for output in outputs.values()}


def _metrics(validated: StageOutput) -> dict[str, float | None]:
    return {name: validated.manifest.metrics[name] for name in METRICS}
