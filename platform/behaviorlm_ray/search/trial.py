"""One trial of a search: a run with some keys changed, up to its objective on validation."""

import logging
from collections.abc import Mapping
from typing import Any

import ray.data
from ray import tune

from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.search.settings import trial_settings
from behaviorlm_ray.stages import StageOutput

OBJECTIVE = "objective"
METRICS = (OBJECTIVE, "anchor_accuracy", "tail_macro_recall")

# A trial only waits for Ray Train and Ray Data, which ask for CPUs and GPUs of their own. With a CPU of its own it
# would wait forever where theirs take all. Tune wants some resource: one byte of memory.
_RESOURCES = tune.PlacementGroupFactory([{"memory": 1}])


def trainable(config: dict[str, Any]) -> None:
    """Run the stages of a trial, or reuse them, and report its objective; for `ray.tune.Tuner`.

    config: {"run": a run's configuration as a nested dictionary (see RunSettings), "overrides": {dotted key: value}}.
    Reports "objective" (greater is better), its parts "anchor_accuracy" and "tail_macro_recall" (None where validation
    has no sample of the group), all on validation samples, and "stages": {stage: its folder's name}. Stages are shared
    with all trials and runs of the same storage.root, which every node must reach; paths must be absolute. It asks Tune
    for no CPU: leave the cluster's to the stages. Raises the project's errors.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    tune.report(run_trial(config["run"], config["overrides"]))


tune.with_resources(trainable, _RESOURCES)  # sets an attribute that Tune looks for


def run_trial(run: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial reports. Needs an initialized Ray."""
    pipeline = Pipeline(trial_settings(run, overrides))
    pipeline.check_inputs()
    validated = pipeline.validated("ab_tuned")
    assert isinstance(validated, StageOutput)
    metrics = {name: validated.manifest.metrics[name] for name in METRICS}
    # .../stages/<stage>-<fingerprint>/attempts/<attempt>
    return metrics | {
        "stages": {name: output.folder.parents[1].name for name, output in pipeline.outputs.items()}
    }
