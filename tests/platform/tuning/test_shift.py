"""Tunings one after another in the same processes: each comes out as if it were alone."""

import functools
import gc
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.shift import carry_out
from behaviorlm_ray.tuning.worker import TuningTask
from tests.platform.tuning_runs import run_workers, toy_model, toy_schedule, toy_task

STEPS = (4, 1, 3)
BEFORE = (2, 3)


def _carry_out(tasks: Sequence[TuningTask]) -> None:
    for task in tasks:
        outcome = carry_out(task, lambda metrics: None, lambda: False)
        assert isinstance(outcome, dict), outcome


def _task(folder: Path, stage: int, adapter: bool) -> TuningTask:
    """Dropout makes the weights depend on the state of the random numbers as well."""
    return toy_task(
        folder,
        build_model=functools.partial(toy_model, adapter=adapter, dropout=0.2),
        open_schedule=toy_schedule(STEPS),
        execution=TuningExecution(zero_stage=stage, progress_every_seconds=0),
    )


def _other_task(folder: Path, like: TuningTask, adapter: bool) -> TuningTask:
    """Another model, rate, decay and schedule, in another precision where the stage allows it."""
    dtype = torch.bfloat16 if like.execution.zero_stage else torch.float32
    return toy_task(
        folder,
        build_model=functools.partial(toy_model, dtype=dtype, adapter=adapter, dropout=0.4),
        open_schedule=toy_schedule(BEFORE),
        config=TuningConfig(learning_rate=0.1, clip_norm=0.1, weight_decay=0.3, seed=5),
        execution=like.execution,
    )


def _digests(folder: Path) -> dict[str, str]:
    """Of every file that a tuning leaves behind, but for the seconds that its steps took."""
    curve = [json.loads(line) for line in (folder / "output" / "loss.jsonl").read_text().splitlines()]
    assert all(line.pop("seconds") > 0 for line in curve)
    found = {"curve": json.dumps(curve)}
    for part in ("output/model", "checkpoints"):
        for path in sorted((folder / part).rglob("*.safetensors")):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(found) > 2, found
    return found


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_tuning_is_byte_for_byte_the_same_whatever_its_workers_tuned_before(
    stage: int, adapter: bool, tmp_path: Path
) -> None:
    alone = _task(tmp_path / "alone", stage, adapter)
    assert run_workers(_carry_out, 2, [alone]) == [0, 0]
    after = _task(tmp_path / "after", stage, adapter)
    first = _other_task(tmp_path / "first", after, not adapter)
    again = _task(tmp_path / "again", stage, adapter)
    assert run_workers(_carry_out, 2, [first, after, again]) == [0, 0]
    assert _digests(tmp_path / "after") == _digests(tmp_path / "alone") == _digests(tmp_path / "again")
    assert _digests(tmp_path / "first") != _digests(tmp_path / "alone")


def _count_what_stays(task: TuningTask, others: Sequence[TuningTask], found: Path) -> None:
    def numbers() -> int:
        return sum(value.numel() for value in gc.get_objects() if isinstance(value, torch.Tensor))

    _carry_out([task])
    before = numbers()
    _carry_out(others)
    found.write_text(json.dumps([before, numbers()]))


def test_nothing_of_a_tuning_stays_in_memory(tmp_path: Path) -> None:
    tasks = [_task(tmp_path / str(number), stage=1, adapter=True) for number in range(4)]
    assert run_workers(_count_what_stays, 1, tasks[0], tasks[1:], tmp_path / "found") == [0]
    before, after = json.loads((tmp_path / "found").read_text())
    assert after <= before
