"""Checkpoints: whole or not at all, verified, and continued by any number of workers under any ZeRO stage."""

import contextlib
import functools
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from behaviorlm.errors import StorageError
from behaviorlm_ray.tuning.checkpoints import (
    newest_checkpoint,
    prune_checkpoints,
    remove_unfinished,
    write_checkpoint,
)
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank
from tests.platform.tuning_runs import (
    ToySchedule,
    dying_schedule,
    relative_distance,
    run_workers,
    toy_model,
    toy_schedule,
    toy_task,
    trained_parameters,
    tune_without_ray,
)

STEPS = (4, 5, 1, 3, 2, 4)
IDENTITY = {"schedule": "a", "model": "b"}
CONSTANT_RATE = TuningConfig(learning_rate=0.01, clip_norm=0.5, schedule="constant")


def execution(stage: int = 1) -> TuningExecution:
    options = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    return TuningExecution.model_validate(
        {"zero_stage": stage, "zero_options": options, "checkpoint_every_steps": 2}
    )


def written(root: Path, step: int, identity: dict[str, str] = IDENTITY) -> Path:
    values = torch.full((7,), float(step))
    state = {kind: {"weight": values.clone()} for kind in ("parameter", "exp_avg", "exp_avg_sq")}
    records = [{"step": number} for number in range(step)]
    return write_checkpoint(root, step, state, {"weight": (7, 1)}, records, identity)


def lineage(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "output" / "lineage.jsonl").read_text().splitlines()]


def assert_each_sample_once(folder: Path) -> None:
    used = [sample for line in lineage(folder) for sample in line["sample_ids"]]
    schedule = ToySchedule(STEPS)
    expected = [sample.hex() for step in range(len(STEPS)) for sample in schedule.sample_ids(step)]
    assert used == expected
    assert sum(line["samples"] for line in lineage(folder)) == len(expected)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path, 2)
    written(tmp_path, 10)
    checkpoint = newest_checkpoint(tmp_path, IDENTITY, print)
    assert checkpoint is not None and checkpoint.step == 10
    assert torch.equal(checkpoint.read("exp_avg", "weight"), torch.full((7,), 10.0))
    assert [record["step"] for record in checkpoint.records()] == list(range(10))
    assert checkpoint.shapes == {"weight": [7, 1]}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["exp_avg.safetensors", "steps.jsonl", "checkpoint.json"])
def test_a_damaged_checkpoint_is_announced_and_the_one_before_taken(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    written(tmp_path, 2)
    damage(written(tmp_path, 4) / name)
    said: list[str] = []
    checkpoint = newest_checkpoint(tmp_path, IDENTITY, said.append)
    assert checkpoint is not None and checkpoint.step == 2
    assert len(said) == 1 and "step-00000004" in said[0]
    assert written(tmp_path, 4).exists()
    rewritten = newest_checkpoint(tmp_path, IDENTITY, said.append)
    assert rewritten is not None and rewritten.step == 4


def test_a_checkpoint_of_another_run_is_never_continued(tmp_path: Path) -> None:
    written(tmp_path, 2, IDENTITY | {"schedule": "other"})
    said: list[str] = []
    assert newest_checkpoint(tmp_path, IDENTITY, said.append) is None
    assert "another schedule" in said[0]


def test_only_the_newest_are_kept_and_unfinished_ones_removed(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        written(tmp_path, step)
    (tmp_path / ".incomplete-x").mkdir()
    prune_checkpoints(tmp_path, keep=2)
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000006"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    task = toy_task(folder, open_schedule=toy_schedule(STEPS), execution=execution(), config=CONSTANT_RATE)
    assert tune_without_ray(task, 2) == [0, 0]
    return trained_parameters(folder / "output")


@pytest.mark.parametrize(
    ("stage", "workers", "later_stage", "later_workers"),
    [
        pytest.param(1, 2, 1, 2, id="same"),
        pytest.param(1, 2, 1, 3, id="more workers, ZeRO-1"),
        pytest.param(2, 3, 2, 1, id="fewer workers, ZeRO-2", marks=pytest.mark.slow),
        pytest.param(3, 3, 3, 2, id="fewer workers, ZeRO-3", marks=pytest.mark.slow),
        pytest.param(3, 1, 3, 3, id="more workers, ZeRO-3"),
        pytest.param(0, 2, 3, 3, id="ZeRO-0 to ZeRO-3", marks=pytest.mark.slow),
        pytest.param(3, 2, 0, 1, id="ZeRO-3 to ZeRO-0"),
    ],
)
def test_a_killed_run_is_continued_to_the_same_weights_with_each_sample_used_once(
    stage: int,
    workers: int,
    later_stage: int,
    later_workers: int,
    tmp_path: Path,
    uninterrupted: dict[str, torch.Tensor],
) -> None:
    opener = dying_schedule(STEPS, 5, tmp_path / "died", fatal_rank=workers - 1)
    task = functools.partial(toy_task, tmp_path, open_schedule=opener, config=CONSTANT_RATE)
    codes = tune_without_ray(task(execution=execution(stage)), workers)
    assert all(code != 0 for code in codes)
    assert not (tmp_path / "output").exists()
    later = task(execution=execution(later_stage), attempt="second")
    assert tune_without_ray(later, later_workers) == [0] * later_workers
    attempts = {line["attempt"]: line["workers"] for line in lineage(tmp_path)}
    assert attempts == {"first": workers, "second": later_workers}
    assert_each_sample_once(tmp_path)
    distance = relative_distance(trained_parameters(tmp_path / "output"), uninterrupted)
    assert distance == 0 if (stage, workers) == (later_stage, later_workers) else distance < 1e-4


@pytest.mark.parametrize(
    "stage", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_bfloat16_runs_are_continued_exactly(stage: int, tmp_path: Path) -> None:
    build = functools.partial(toy_model, dtype=torch.bfloat16)
    options = {"build_model": build, "config": CONSTANT_RATE, "execution": execution(stage)}
    whole = toy_task(tmp_path / "whole", open_schedule=toy_schedule(STEPS), **options)
    assert tune_without_ray(whole, 2) == [0, 0]
    cut = toy_task(tmp_path / "cut", open_schedule=dying_schedule(STEPS, 3, tmp_path / "died"), **options)
    assert tune_without_ray(cut, 2) != [0, 0]
    assert tune_without_ray(cut, 2) == [0, 0]
    whole_parameters = trained_parameters(tmp_path / "whole" / "output")
    assert relative_distance(trained_parameters(tmp_path / "cut" / "output"), whole_parameters) == 0


def test_a_finished_run_is_saved_again_without_another_step(
    tmp_path: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    task = functools.partial(
        toy_task, tmp_path, open_schedule=toy_schedule(STEPS), config=CONSTANT_RATE, execution=execution()
    )
    assert tune_without_ray(task(), 2) == [0, 0]
    (tmp_path / "output" / "lineage.jsonl").unlink()
    assert tune_without_ray(task(attempt="second"), 1) == [0]
    assert {line["attempt"] for line in lineage(tmp_path)} == {"first"}
    assert relative_distance(trained_parameters(tmp_path / "output"), uninterrupted) < 1e-4


def tune_on_a_full_disk(task: TuningTask) -> None:
    """No file may grow beyond a few bytes: writes fail as they do on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
    with (
        open(os.devnull, "w") as nowhere,  # the limit must not hit a file that output is redirected to
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        pytest.raises(StorageError, match="Make room"),
    ):
        tune_rank(task, lambda metrics: None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_full_disk_stops_the_run_resumably(tmp_path: Path, uninterrupted: dict[str, torch.Tensor]) -> None:
    task = toy_task(tmp_path, open_schedule=toy_schedule(STEPS), config=CONSTANT_RATE, execution=execution())
    assert run_workers(tune_on_a_full_disk, 1, task) == [0]
    assert not list((tmp_path / "checkpoints").glob("*"))
    assert tune_without_ray(task, 2) == [0, 0]
    assert relative_distance(trained_parameters(tmp_path / "output"), uninterrupted) < 1e-4
