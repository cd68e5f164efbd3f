"""The driver's side of tuning: start Ray Train workers, restart them when they fail, hand back the
outcome.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError, DataError, ModelError
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.failures import causes
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningExecution
from behaviorlm_ray.tuning.engine import prepare_process
from behaviorlm_ray.tuning.out_of_memory import EndWhenOutOfMemory
from behaviorlm_ray.tuning.worker import CURVE, LINEAGE, MODEL, TuningTask, tune_rank

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"

START_SECONDS = 600
"""So long Ray Train waits for workers before it asks anew: a GPU node and its image take minutes (our choice)."""


@dataclass(frozen=True)
class TuningResult:
    """What a tuning run left behind. `loss`: of the last step, before its update; `seconds`: of all steps."""

    model_folder: Location
    curve: Location
    lineage: Location
    steps: int
    loss: float
    samples: int
    tokens: int
    seconds: float


def tune(task: TuningTask) -> TuningResult:
    """Tune a model with Ray Train and DeepSpeed, from the newest checkpoint in the task's folder if there is one.

    Both folders of the task must be reachable from every worker: on S3, or on a file system that all nodes share.
    Tokens, samples and seconds are counted from the task's first_step. Writes model/, loss.jsonl (one line a step) and
    lineage.jsonl (the samples of each step) to the output folder. Needs an initialized Ray. Raises the error of a
    worker where it is ours, else ClusterError.
    """
    if not ray.is_initialized():
        raise ClusterError("tuning needs a Ray cluster: call ray.init() first")
    storage.make_folder(task.checkpoint_folder)
    trainer = TorchTrainer(
        # not by train_loop_config, for which Ray Train's controller would import all that the task names
        lambda: _run_worker(task),  # type: ignore[arg-type]  # it may return a value since Ray 2.60
        scaling_config=_scaling(task.execution),
        torch_config=TorchConfig(backend="nccl" if task.execution.use_gpu else "gloo"),
        run_config=_run_config(task),
    )
    with start_patience(task.execution):
        summary = _fit(trainer)
    output = task.output_folder
    return TuningResult(output / MODEL, output / CURVE, output / LINEAGE, **summary)


def _scaling(execution: TuningExecution) -> ScalingConfig:
    gpus = {"GPU": 1} if execution.use_gpu else {}
    return ScalingConfig(
        num_workers=_worker_range(execution),
        elastic_resize_monitor_interval_s=execution.resize_every_seconds,  # type: ignore[call-arg]  # of Ray Train V2
        use_gpu=execution.use_gpu,
        resources_per_worker={"CPU": execution.cpus_per_worker, **gpus},
    )


def _run_config(task: TuningTask) -> RunConfig:
    preemptions = task.execution.max_preemptions
    return RunConfig(
        # a name that was used before would silently resume Ray Train's own state; ours is in the checkpoints
        name=f"tuning-{task.attempt}",
        storage_path=str(_ray_folder(task.checkpoint_folder)),
        failure_config=FailureConfig(  # type: ignore[call-arg]  # of Ray Train V2
            max_failures=task.execution.max_failures,
            max_preemption_failures=-1 if preemptions is None else preemptions,
        ),
        callbacks=[EndWhenOutOfMemory(task.config.max_tokens)],  # type: ignore[list-item]  # of Ray Train V2
    )


def _ray_folder(checkpoint_folder: Location) -> Path:
    """Where Ray Train keeps its own state. It never gets a checkpoint from us, so it is needed on one node only."""
    if isinstance(checkpoint_folder, Path):
        return checkpoint_folder.absolute() / "ray"
    return Path(tempfile.gettempdir()) / "behaviorlm-ray-train"


def _worker_range(execution: TuningExecution) -> Any:
    """A number, or (least, most): Ray Train then starts with what the cluster has room for."""
    return (execution.min_workers, execution.workers) if execution.min_workers else execution.workers


@contextmanager
def start_patience(execution: TuningExecution) -> Iterator[None]:
    """Let Ray Train wait for machines that are still starting, and not report a failure each minute.

    Not where fewer workers would do: then it is soon to be seen that there is no room for all.
    """
    if execution.min_workers is not None or START_TIMEOUT in os.environ:
        yield
        return
    os.environ[START_TIMEOUT] = str(START_SECONDS)
    try:
        yield
    finally:
        del os.environ[START_TIMEOUT]


def _fit(trainer: TorchTrainer) -> dict[str, Any]:
    try:
        outcome = trainer.fit().return_value  # type: ignore[attr-defined]  # Ray types the result of V1
    except ray.train.TrainingFailedError as error:
        for failure in [error, *getattr(error, "worker_failures", {}).values()]:
            for cause in causes(failure):
                if isinstance(cause, BehaviorLMError):
                    raise cause from error
        raise ClusterError(f"tuning failed: {error}") from error
    if isinstance(outcome, BehaviorLMError):
        raise outcome
    return outcome


def _run_worker(task: TuningTask) -> dict[str, Any] | BehaviorLMError:
    prepare_process(task.execution)
    try:
        return tune_rank(task, ray.train.report, _is_preempted)
    except (ConfigError, DataError, ModelError) as error:
        return error  # all workers meet these alike (tune_rank); raised, they would be retried for nothing


def _is_preempted() -> bool:
    """Whether a machine of the run has been given notice; Ray Train answers alike on all workers."""
    return ray.train.get_preemption_info() is not None
