"""One trial of a search: a run with some keys changed, measured on validation at each rung of its B-Tuning.

All that a search asks of a run's stages it asks here.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray.data
from ray import tune

from behaviorlm.config import validate_settings
from behaviorlm_ray.pipeline.pipeline import Pipeline
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.report.wording import PRIMARY
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.objective import METRICS
from behaviorlm_ray.search.settings import WINNING_ARM, SchedulerSettings, trial_settings
from behaviorlm_ray.search.space import Parameters
from behaviorlm_ray.stages.graph import Stage
from behaviorlm_ray.stages.running import StageOutput
from behaviorlm_ray.storage import read_text

# A trial only waits for Ray Train and Ray Data, which ask for CPUs and GPUs of their own. With a CPU of its own it
# would wait forever where theirs take all. Tune wants some resource: one byte of memory.
RESOURCES = tune.PlacementGroupFactory([{"memory": 1}])

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
    pipeline = open_trial(trial_settings(config["run"], config["overrides"]))
    for rung in range(scheduler.number_of_rungs):
        task = Task(number=rung, trial=0, rung=rung, parameters=config["overrides"])
        outcome = measure(pipeline, scheduler, task)
        told = outcome.model_dump(include={"steps", "steps_of_whole", "stages"})
        tune.report({**outcome.metrics, "rung": rung + 1, "rungs": scheduler.number_of_rungs, **told})


tune.with_resources(trainable, RESOURCES)  # sets an attribute that Tune looks for


def quieten() -> None:
    """Leave the log to progress lines: many trials share it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def open_trial(settings: RunSettings) -> Pipeline:
    """The pipeline of a run, its inputs looked at. Raises ConfigError."""
    pipeline = Pipeline(settings)
    pipeline.check_inputs()
    return pipeline


def measure(pipeline: Pipeline, scheduler: SchedulerSettings, task: Task) -> Outcome:
    """Bring a trial to a rung and measure it there. Needs an initialized Ray. Raises the project's errors."""
    steps, _ = pipeline.b_tuning_steps()
    stops = [scheduler.stop_step(rung, steps) for rung in range(task.rung + 1)]
    stop = stops[-1]
    earlier = _tuned_until(pipeline, [passed for passed in dict.fromkeys(stops) if passed < stop])
    if stop == steps:
        pipeline.ab_tuned(earlier)
        validated = pipeline.validated(WINNING_ARM)
    else:
        validated = pipeline.validated_at(stop, pipeline.ab_tuned_until(stop, earlier))
    metrics = _metrics(validated)
    stages = stages_at(pipeline, stop)
    return Outcome(task=task, metrics=metrics, steps=stop, steps_of_whole=steps, stages=stages)


def input_hashes(pipeline: Pipeline) -> dict[str, str]:
    """What identifies all that a run reads from outside, by name."""
    return {name: str(value) for name, value in pipeline.input_hashes.items()}


def measure_arm(base: Pipeline, arm: str) -> Outcome:
    """An arm of a run on validation, as an outcome of no task. Raises ConfigError."""
    pipeline = base.variant(arm)
    pipeline.check_inputs()
    metrics = _metrics(pipeline.validated(base.settings.all_arms[arm].tuning))
    task = Task(number=-1, trial=-1, rung=0, parameters={})
    return Outcome(task=task, metrics=metrics, stages=stages_at(pipeline))


def stages_at(pipeline: Pipeline, stop: int | None = None) -> dict[str, str]:
    """Folders by name of the stages that lead to a step of B-Tuning, without the rungs on the way; None: of all."""
    return {
        # .../stages/<stage>-<fingerprint>/attempts/<attempt>
        name: output.folder.parents[1].name
        for name, output in pipeline.outputs.items()
        if stop is None or (found := _RUNG.fullmatch(name)) is None or int(found[1]) == stop
    }


def planned_stages(run: Mapping[str, Any], parameters: Parameters) -> Iterator[tuple[str, str, bool]]:
    """Name of each stage of a trial tuned whole, a hash of what it is made from, whether it is there already."""
    pipeline = Pipeline(trial_settings(run, parameters), planning=True)
    pipeline.validated(WINNING_ARM)
    for plan in pipeline.plans:
        yield plan.name, pipeline.recipes[plan.name], plan.output is not None


def evaluate(winner: RunSettings) -> dict[str, Any]:
    """The winner's own run to the end: its endpoint on test, and where its report is."""
    pipeline = open_trial(winner)
    pipeline.evaluated()
    report = write_results(pipeline)
    measured = json.loads(read_text(report.parent / "results.json"))["models"][WINNING_ARM]
    names = ("anchor_accuracy", "tail_macro_recall")
    found = {name: measured[group][metric] for name, (group, metric) in zip(names, PRIMARY, strict=True)}
    return found | {"report": str(report)}


def _metrics(validated: Stage) -> dict[str, float | None]:
    assert isinstance(validated, StageOutput)
    return {name: validated.manifest.metrics[name] for name in METRICS}


def _tuned_until(pipeline: Pipeline, stops: list[int]) -> Callable[[], Stage] | None:
    """Asks for the last of these rungs, which goes on from the one before."""
    if not stops:
        return None
    return lambda: pipeline.ab_tuned_until(stops[-1], _tuned_until(pipeline, stops[:-1]))
