"""One trial of a search: a run with some keys changed, measured on validation at each rung of its B-Tuning."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import ray.data
from ray import tune

from behaviorlm.config import validate_settings
from behaviorlm_ray.pipeline.pipeline import Pipeline
from behaviorlm_ray.search.objective import METRICS
from behaviorlm_ray.search.scheduler import SchedulerSettings
from behaviorlm_ray.search.settings import trial_settings
from behaviorlm_ray.stages.graph import Stage
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import StageOutput

# A trial only waits for Ray Train and Ray Data, which ask for CPUs and GPUs of their own. With a CPU of its own it
# would wait forever where theirs take all. Tune wants some resource: one byte of memory.
RESOURCES: dict[str, int | float] = {"memory": 1}

_RUNG = re.compile(r"(?:b_tune|validate)_step_(\d+)")


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
    pipeline = open_trial(config["run"], config["overrides"])
    pipeline.shared.record = RunRecord(pipeline.root / pipeline.settings.name)
    for rung in range(scheduler.number_of_rungs):
        tune.report(measure_at(pipeline, scheduler, rung))


tune.with_resources(
    trainable, tune.PlacementGroupFactory([RESOURCES])
)  # sets an attribute that Tune looks for


def quieten() -> None:
    """Leave the log to progress lines: many trials share it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def open_trial(run: Mapping[str, Any], overrides: Mapping[str, Any]) -> Pipeline:
    """The pipeline of a trial, its inputs looked at. Raises ConfigError."""
    pipeline = Pipeline(trial_settings(run, overrides))
    pipeline.check_inputs()
    return pipeline


def measure_at(pipeline: Pipeline, scheduler: SchedulerSettings, rung: int) -> dict[str, Any]:
    """What a trial reports at a rung (from 0). Needs an initialized Ray."""
    steps, steps_per_epoch = pipeline.b_tuning_steps()
    stops = [
        scheduler.stop_step(number, steps, steps_per_epoch) for number in range(scheduler.number_of_rungs)
    ]
    earlier = [stop for stop in dict.fromkeys(stops[:rung]) if stop < stops[rung]]
    stop = stops[rung]
    if stop == steps:
        pipeline.ab_tuned(_tuned_until(pipeline, earlier))
        validated = pipeline.validated("ab_tuned")
    else:
        tuned = pipeline.ab_tuned_until(stop, _tuned_until(pipeline, earlier))
        validated = pipeline.validated_at(stop, tuned)
    assert isinstance(validated, StageOutput)
    return {
        **{name: validated.manifest.metrics[name] for name in METRICS},
        "rung": rung + 1,
        "rungs": scheduler.number_of_rungs,
        "steps": stop,
        "steps_of_whole": steps,
        "stages": stages_at(pipeline, stop),
    }


def stages_at(pipeline: Pipeline, stop: int | None) -> dict[str, str]:
    """Folders by name of the stages that lead to a step of B-Tuning, without the rungs on the way; None: of all."""
    return {
        # .../stages/<stage>-<fingerprint>/attempts/<attempt>
        name: output.folder.parents[1].name
        for name, output in pipeline.outputs.items()
        if stop is None or (found := _RUNG.fullmatch(name)) is None or int(found[1]) == stop
    }


def _tuned_until(pipeline: Pipeline, stops: list[int]) -> Callable[[], Stage] | None:
    """Asks for the last of these rungs, which goes on from the one before."""
    if not stops:
        return None
    return lambda: pipeline.ab_tuned_until(stops[-1], _tuned_until(pipeline, stops[:-1]))
