"""One trial of a search: a run with some keys changed, measured on validation at each rung of its B-Tuning."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray.data
from ray import tune

from behaviorlm.config import validate_settings
from behaviorlm_ray.pipeline.b_tune import b_tune
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.select import select
from behaviorlm_ray.pipeline.tune import steps_of
from behaviorlm_ray.pipeline.validate import validate, validate_rung
from behaviorlm_ray.search.objective import METRICS
from behaviorlm_ray.search.scheduler import SchedulerSettings
from behaviorlm_ray.search.settings import trial_settings
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage

# A trial only waits for Ray Train and Ray Data, which ask for CPUs and GPUs of their own. With a CPU of its own it
# would wait forever where theirs take all. Tune wants some resource: one byte of memory.
RESOURCES: dict[str, int | float] = {"memory": 1}


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
    trial = open_trial(config["run"], config["overrides"])
    trial.runner.record = RunRecord(trial.run.output_folder)
    for rung in range(scheduler.number_of_rungs):
        tune.report(measure_at(trial, scheduler, rung))


tune.with_resources(
    trainable, tune.PlacementGroupFactory([RESOURCES])
)  # sets an attribute that Tune looks for


def quieten() -> None:
    """Leave the log to progress lines: many trials share it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """A trial's run and what runs its stages."""

    run: Run
    runner: Runner

    @property
    def stages(self) -> dict[str, str]:
        """Folders of the stages so far, by name."""
        # .../stages/<stage>-<fingerprint>/attempts/<attempt>
        return {
            output.manifest.stage: output.folder.parents[1].name for output in self.runner.outputs.values()
        }


def open_trial(run: Mapping[str, Any], overrides: Mapping[str, Any]) -> Trial:
    """The trial, its inputs looked at. Raises ConfigError."""
    opened = open_run(trial_settings(run, overrides))
    check_inputs(opened, is_written=True)
    return Trial(opened, opened.runner())


def measure_at(trial: Trial, scheduler: SchedulerSettings, rung: int) -> dict[str, Any]:
    """What a trial reports at a rung (from 0). Needs an initialized Ray."""
    run, runner = trial.run, trial.runner
    selected = runner.run(select(run)).manifest.rows["samples"]
    steps, steps_per_epoch = steps_of(run.settings.b_tuning, selected)
    stops = [
        scheduler.stop_step(number, steps, steps_per_epoch) for number in range(scheduler.number_of_rungs)
    ]
    stop = stops[rung]
    tuned: Stage | None = None
    for earlier in sorted({earlier for earlier in stops[:rung] if earlier < stop}):
        tuned = b_tune(run, earlier, tuned)
    is_whole = stop == steps
    goal = (
        validate(run, "ab_tuned", tuned) if is_whole else validate_rung(run, stop, b_tune(run, stop, tuned))
    )
    metrics = runner.run(goal).manifest.metrics
    return {
        **{name: metrics[name] for name in METRICS},
        "rung": rung + 1,
        "rungs": scheduler.number_of_rungs,
        "steps": stop,
        "steps_of_whole": steps,
        "stages": {
            output.manifest.stage: output.folder.parents[1].name for output in runner.named(goal).values()
        },
    }
