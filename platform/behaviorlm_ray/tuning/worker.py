"""One worker's share of a tuning run: build, resume, step, checkpoint, save.

The same code path serves a first start, a restart of workers by Ray Train and a new call after the driver
died: the newest checkpoint that verifies is continued, whatever wrote it and with however many workers.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn

from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError, DataError, ModelError, StorageError
from behaviorlm.model.gpu import gpu_name
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray import storage
from behaviorlm_ray.costs.operations import operations
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning import sharded_state
from behaviorlm_ray.tuning.checkpoint_pace import CheckpointPace
from behaviorlm_ray.tuning.checkpoint_writer import CheckpointWriter
from behaviorlm_ray.tuning.checkpoints import Checkpoint, newest_checkpoint, remove_unfinished
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.engine import TuningEngine, start_engine
from behaviorlm_ray.tuning.failed_workers import announce
from behaviorlm_ray.tuning.optimizer_step import StepOutcome, run_step
from behaviorlm_ray.tuning.packs_ahead import steps_ahead
from behaviorlm_ray.tuning.progress import Progress

CURVE = "loss.jsonl"
LINEAGE = "lineage.jsonl"
MODEL = "model"


class Schedule(Protocol):
    """The steps of a run, the same whatever the number of workers (behaviorlm.training.packs.StepSchedule is one).

    packs: a thread asks for a step's, one at a time; they must follow from the step alone.
    """

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    @property
    def part_names(self) -> list[str]: ...

    def packs(self, step: int) -> list[TokenTree]: ...

    def sample_ids(self, step: int) -> list[bytes]: ...


@dataclass(frozen=True)
class TuningTask:
    """Everything a worker needs; sent to each by value, so the functions must be picklable.

    build_model: the model to tune, ready to train (adapter included, deterministic). open_schedule: the step
    schedule. save_model: writes the tuned model into a folder; called on worker 0. base: names the starting
    weights, so that a checkpoint is never continued from others. attempt: names this call, for the lineage.
    stop_step: stop after so many steps, with a checkpoint there; None: after the schedule's last. The schedule, and
    with it the learning rate, stays that of the whole run, so a run that stops is exactly the beginning of one that
    does not. first_step: steps before it were another run's, whose checkpoint is continued; the counts leave them out.
    earlier_checkpoints: folders of other attempts at the same run, from which this one may go on.
    """

    build_model: Callable[[], TreeModel]
    open_schedule: Callable[[], Schedule]
    save_model: Callable[[nn.Module, Path], None]
    config: TuningConfig
    execution: TuningExecution
    checkpoint_folder: Location
    output_folder: Location
    base: str
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop_step: int | None = None
    first_step: int = 0
    earlier_checkpoints: Sequence[Location] = ()


def tune_rank(
    task: TuningTask,
    report: Callable[[dict[str, Any]], None],
    preempted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run one worker's share; needs an initialized torch.distributed. Collective: all workers run it
    together.

    report: called on every worker at the same steps, with the step's numbers. preempted: called on every worker after
    every step; whether a machine of the run is about to go, answered alike everywhere. Returns a summary. A
    ConfigError, DataError or ModelError is raised on all workers alike; what only some meet becomes a ClusterError.
    """
    torch.manual_seed(task.config.seed)
    schedule, model = _open_together(task)
    identity = _identity(task, schedule, model)
    checkpoint = _agree_on_checkpoint(task, identity)
    engine = start_engine(model, task.config, task.execution, checkpoint.read if checkpoint else None)
    if dist.get_rank() == 0:
        workers = dist.get_world_size()
        on = f", {gpu_name()}" if engine.device.type == "cuda" else ""
        announce(
            f"{len(schedule)} steps on {workers} {'worker' if workers == 1 else 'workers'}, ZeRO-{engine.zero_stage} "
            f"({engine.zero.reason}), {engine.dtype}, {engine.trainable_numel:,} trainable parameters{on}"
        )
    if checkpoint is not None:
        sharded_state.restore(engine, checkpoint.read, checkpoint.step)
    records = [] if checkpoint is None else checkpoint.records
    keep = task.execution.keep_checkpoints
    places = task.checkpoint_folder, task.earlier_checkpoints
    with CheckpointWriter(places[0], keep, identity, checkpoint, places[1]) as writer:
        _train(task, schedule, engine, records, writer, report, preempted)
    summary = _finish(task, schedule, engine, records)
    engine.runner.close()
    return summary


def _open_together(task: TuningTask) -> tuple[Schedule, TreeModel]:
    """The schedule and the model; collective, so that every worker learns whether all of them have both."""
    failure: BehaviorLMError | None = None
    try:
        schedule, model = task.open_schedule(), task.build_model()
        if model.parts != len(schedule.part_names):
            raise ConfigError(
                f"the model counts {model.parts} parts of the loss, the schedule has {schedule.part_names}"
            )
    except (ConfigError, DataError, ModelError) as error:
        failure = error
    told: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(told, failure and str(failure))
    failed = {rank: text for rank, text in enumerate(told) if text is not None}
    if failure is not None and len(failed) == len(told):
        raise failure
    if failed:
        listed = "\n".join(f"worker {rank}: {text}" for rank, text in failed.items())
        raise ClusterError(
            f"{len(failed)} of {len(told)} workers could not open what the others could; are the files of the model "
            f"and the run the same on all nodes?\n{listed}"
        )
    return schedule, model


def _train(
    task: TuningTask,
    schedule: Schedule,
    engine: TuningEngine,
    records: list[dict[str, Any]],
    writer: CheckpointWriter,
    report: Callable[[dict[str, Any]], None],
    preempted: Callable[[], bool],
) -> None:
    """Run the steps that `records` does not hold yet, and add them to it."""
    steps, first = len(schedule), len(records)
    stop = steps if task.stop_step is None else min(task.stop_step, steps)
    progress = Progress(schedule.part_names, stop, first, task.execution, engine, task.checkpoint_folder)
    pace = CheckpointPace(task.execution, first, engine.device)
    with closing(steps_ahead(schedule.packs, first, stop)) as ahead:
        for step, packs in ahead:
            outcome = run_step(engine, packs, step, steps)
            records.append(
                {"step": step, **asdict(outcome), "workers": dist.get_world_size(), "attempt": task.attempt}
            )
            progress.show(step, outcome, operations(engine.work, packs))
            leaving = preempted() and writer.is_due_on_notice(engine.device)
            if leaving and dist.get_rank() == 0:
                announce(f"a machine is about to go: checkpoint after step {step + 1} before it does")
            if leaving or pace.is_due(step + 1) or step + 1 == stop:
                with pace.timed(step + 1):
                    writer.start(engine, step + 1, records)
                    report({"step": step + 1, "steps": steps, **_scalars(schedule, outcome)})
    progress.close()


def _finish(
    task: TuningTask, schedule: Schedule, engine: TuningEngine, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Save the tuned model, the loss curve and the lineage on worker 0; collective."""
    with _gathered(engine):
        if dist.get_rank() == 0:
            try:
                with storage.writing(task.output_folder) as folder:
                    task.save_model(engine.tree_model.model, folder / MODEL)
                    _write_lines(folder / CURVE, (_curve_line(schedule, record) for record in records))
                    _write_lines(folder / LINEAGE, (_lineage_line(schedule, record) for record in records))
            except (OSError, SafetensorError) as error:
                raise StorageError(
                    f"the tuned model could not be written to {task.output_folder}: {error}. Make room or fix the "
                    "permissions and start the job again: it continues from the last checkpoint"
                ) from None
    dist.barrier()
    return {
        "steps": len(records),
        "loss": records[-1]["loss"],
        "samples": sum(record["samples"] for record in records[task.first_step :]),
        "tokens": sum(record["tokens"] for record in records[task.first_step :]),
        "seconds": sum(record["seconds"] for record in records[task.first_step :]),
        "zero_stage": engine.zero_stage,
        "zero_reason": engine.zero.reason,
    }


def _curve_line(schedule: Schedule, record: dict[str, Any]) -> dict[str, Any]:
    named = {**record, "parts": dict(zip(schedule.part_names, record["parts"], strict=True))}
    return {key: value for key, value in named.items() if key not in ("workers", "attempt")}


def _lineage_line(schedule: Schedule, record: dict[str, Any]) -> dict[str, Any]:
    ids = [sample.hex() for sample in schedule.sample_ids(record["step"])]
    return {key: record[key] for key in ("step", "attempt", "workers", "samples")} | {"sample_ids": ids}


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """One after another: the ids of all samples are more than should be held at once."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _gathered(engine: TuningEngine) -> Any:
    """A context in which the trainable parameters are whole on every worker, as they are but for ZeRO-3."""
    if engine.zero_stage != 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(engine.names))


def _identity(task: TuningTask, schedule: Schedule, model: TreeModel) -> dict[str, str]:
    """What a checkpoint must share with this run to be continued."""
    parameters = [(name, list(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
    return {
        "schedule": schedule.fingerprint,
        "tuning config": _digest(task.config.model_dump(mode="json")),
        "model": _digest([task.base, parameters]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _agree_on_checkpoint(task: TuningTask, identity: dict[str, str]) -> Checkpoint | None:
    """Worker 0 looks for the checkpoint to continue from, says so, and tells the others; collective."""
    chosen: list[Checkpoint | None] = [None]
    if dist.get_rank() == 0:
        remove_unfinished(task.checkpoint_folder, task.earlier_checkpoints)
        chosen[0] = newest_checkpoint(task.checkpoint_folder, identity, announce, task.earlier_checkpoints)
        if chosen[0] is not None:
            announce(f"continuing from {chosen[0].folder} (after step {chosen[0].step})")
    dist.broadcast_object_list(chosen, src=0)
    return chosen[0]


def _scalars(schedule: Schedule, outcome: StepOutcome) -> dict[str, float]:
    parts = dict(zip(schedule.part_names, outcome.parts, strict=True))
    speed = {
        "samples_per_second": outcome.samples / outcome.seconds,
        "tokens_per_second": outcome.tokens / outcome.seconds,
    }
    return {"loss": outcome.loss, "learning_rate": outcome.learning_rate, **speed} | {
        f"loss/{name}": value for name, value in parts.items()
    }
