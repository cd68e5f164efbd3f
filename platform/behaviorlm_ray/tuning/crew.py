"""A crew: the workers of one Ray Train fit, which carry out tuning tasks one after another. The driver's side.

Only the first task waits for processes, imports and a process group. A task that fails and is tried again on the way
has the whole budget of its own, as a crew whose workers had to be started again gets no further task.
"""

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import cloudpickle
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from behaviorlm.errors import BehaviorLMError, ClusterError
from behaviorlm_ray.cluster.failures import causes
from behaviorlm_ray.tuning.config import TuningExecution
from behaviorlm_ray.tuning.desk import open_desk
from behaviorlm_ray.tuning.failed_workers import TellOfFailures
from behaviorlm_ray.tuning.shift import work
from behaviorlm_ray.tuning.worker import TuningTask

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"

START_SECONDS = 600
"""So long Ray Train waits for workers before it asks anew: a GPU node and its image take minutes."""

END_SECONDS = 30.0
"""So long a crew that is closed is waited for; whoever needs its room waits for that anyway."""


class Crew:
    """Workers as `execution` asks for, started at once. State: the fit, and how it ended."""

    def __init__(self, execution: TuningExecution) -> None:
        self.execution = execution
        self._desk = open_desk()
        self._connection = _connection()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="Ray Train", daemon=True)
        self._thread.start()

    def tune(self, task: TuningTask) -> dict[str, Any] | BehaviorLMError:
        """Carry out a task. Returns what `tune_rank` did, or raised on all workers alike; raises what ends the fit."""
        try:
            outcome = ray.get(self._desk.give.remote(cloudpickle.dumps(task)))
        except RayError as error:
            self._abandon()
            raise ClusterError(f"tuning failed: {error}") from error
        except BaseException:  # an interruption
            self._abandon()
            raise
        if outcome is not None:
            return cloudpickle.loads(outcome)
        self._thread.join()
        assert self._failure is not None
        raise _explained(self._failure)

    def is_fit_for(self, execution: TuningExecution) -> bool:
        """Whether it can take another task, with the workers that it started with and no failure counted."""
        if self.execution != execution or not self._thread.is_alive():
            return False
        try:
            return self._is_reached() and self._starts() <= 1
        except RayError:
            return False

    def close(self) -> None:
        """End the workers, once they are done, and the fit."""
        self._ask_to_end()
        self._thread.join(END_SECONDS)

    def _starts(self) -> int:
        starts: int = ray.get(self._desk.starts.remote())
        return starts

    def _abandon(self) -> None:
        """End the workers in the midst of a task. Ray Train starts others, which find the desk closed and end."""
        self._ask_to_end()
        if not self._is_reached():
            return
        with suppress(RayError):
            for member in ray.get(self._desk.members.remote()):
                ray.kill(member)

    def _ask_to_end(self) -> None:
        if self._is_reached():
            with suppress(RayError):
                ray.get(self._desk.close.remote())

    def _is_reached(self) -> bool:
        """Whether this process is connected as it was: else Ray would start anew, or does not know these workers."""
        return ray.is_initialized() and _connection() == self._connection

    def _fit(self) -> None:
        name = f"behaviorlm-tuning-{uuid.uuid4().hex}"  # one used before would resume Ray Train's own state
        desk = self._desk
        try:
            # Right in it: a folder in it for all fits would belong to the user who made it.
            folder = Path(tempfile.gettempdir())
            trainer = TorchTrainer(
                lambda: work(desk),
                scaling_config=_scaling(self.execution),
                torch_config=TorchConfig(backend="nccl" if self.execution.use_gpu else "gloo"),
                run_config=_run_config(self.execution, name, folder),
            )
            with start_patience(self.execution), _removed_afterwards(folder / name):
                trainer.fit()
        except BaseException as error:
            self._failure = error
        finally:
            if self._is_reached():
                with suppress(RayError):
                    ray.get(self._desk.end.remote())


def _connection() -> tuple[str, str]:
    """Of this process to a cluster: each local one has the same first job, but no two have a node in common."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


@contextmanager
def _removed_afterwards(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scaling(execution: TuningExecution) -> ScalingConfig:
    gpus = {"GPU": 1} if execution.use_gpu else {}
    return ScalingConfig(
        num_workers=_worker_range(execution),
        elastic_resize_monitor_interval_s=execution.resize_every_seconds,  # type: ignore[call-arg]  # of Ray Train V2
        use_gpu=execution.use_gpu,
        resources_per_worker={"CPU": execution.cpus_per_worker, **gpus},
    )


def _run_config(execution: TuningExecution, name: str, folder: Path) -> RunConfig:
    """folder: where Ray Train keeps its own state. It never gets a checkpoint from us, so it is needed here only, and
    not on S3: an outage there would end the fit for the sake of nothing.
    """
    preemptions = execution.max_preemptions
    return RunConfig(
        name=name,
        storage_path=str(folder),
        failure_config=FailureConfig(  # type: ignore[call-arg]  # of Ray Train V2
            max_failures=execution.max_failures,
            max_preemption_failures=-1 if preemptions is None else preemptions,
        ),
        callbacks=[TellOfFailures()],  # type: ignore[list-item]  # of Ray Train V2
    )


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


def _explained(failure: BaseException) -> BaseException:
    """What to raise for what ended a fit: our own error where one lies below it."""
    for each in [failure, *getattr(failure, "worker_failures", {}).values()]:
        for cause in causes(each):
            if isinstance(cause, BehaviorLMError):
                cause.__cause__ = failure
                return cause
    told = ClusterError(f"tuning failed: {failure}")
    told.__cause__ = failure
    return told
