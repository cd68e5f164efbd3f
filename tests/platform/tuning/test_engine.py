"""Steps with the real engine: what a step computes, and that it does not depend on who computes it."""

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import behaviorlm.model.lm_head
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.tuning import engine
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution, learning_rate
from behaviorlm_ray.tuning.optimizer_step import NotFiniteError
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank
from tests.platform.tuning_runs import (
    LABELS,
    ToySchedule,
    relative_distance,
    run_workers,
    toy_model,
    toy_schedule,
    toy_task,
    trained_parameters,
    tune_without_ray,
)

STEPS = (4, 1, 3)
GATHER_EVERYTHING = {"stage3_param_persistence_threshold": 0}


def execution(stage: int, **changes: Any) -> TuningExecution:
    options = GATHER_EVERYTHING if stage == 3 else {}
    return TuningExecution(zero_stage=stage, zero_options=options, **changes)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "output" / "loss.jsonl").read_text().splitlines()]


def tuned(folder: Path, workers: int, **changes: Any) -> tuple[dict[str, torch.Tensor], list[float]]:
    task = toy_task(folder, **({"open_schedule": toy_schedule(STEPS)} | changes))
    assert tune_without_ray(task, workers) == [0] * workers
    return trained_parameters(folder / "output"), losses(folder)


@pytest.fixture(scope="module")
def plain_loop() -> tuple[dict[str, torch.Tensor], list[float]]:
    return tuned_in_plain_torch(toy_model())


def tuned_in_plain_torch(model: TreeModel, held: bool = False) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same run in plain torch: gradients of all packs added up, clipped, AdamW."""
    config = toy_task(Path()).config
    model.train()
    trainable = {name: p for name, p in model.model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), betas=config.betas, weight_decay=config.weight_decay)
    schedule = ToySchedule(STEPS, held=held)
    curve = []
    for step in range(len(schedule)):
        total = 0.0
        for pack in schedule.packs(step):
            loss = model(pack_tensors(pack, "cpu"))[0]
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trainable.values(), config.clip_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(schedule), config)
        optimizer.step()
        optimizer.zero_grad()
        curve.append(total)
    return {name: p.detach() for name, p in trainable.items()}, curve


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_and_worker_count_gives_the_run_of_a_plain_loop(
    stage: int, workers: int, tmp_path: Path, plain_loop: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    parameters, curve = tuned(tmp_path, workers, execution=execution(stage))
    assert curve == pytest.approx(plain_loop[1], rel=1e-5)
    assert relative_distance(parameters, plain_loop[0]) < 1e-4


def test_full_tuning_is_the_same_under_every_stage(tmp_path: Path) -> None:
    build = functools.partial(toy_model, adapter=False)
    reference, curve = tuned(tmp_path / "1", 1, build_model=build, execution=execution(1))
    for stage in (2, 3):
        parameters, other = tuned(tmp_path / str(stage), 2, build_model=build, execution=execution(stage))
        assert other == pytest.approx(curve, rel=1e-5)
        assert relative_distance(parameters, reference) < 1e-4


@pytest.mark.parametrize(
    ("stage", "adapter", "tied"),
    [(0, True, False), (2, False, True), (3, False, True), (3, False, False), (3, True, False)],
)
def test_a_loss_over_labels_is_the_same_under_every_stage_for_every_head(
    stage: int, adapter: bool, tied: bool, tmp_path: Path
) -> None:
    build = functools.partial(toy_model, labels=LABELS, adapter=adapter, tied=tied)
    parameters, curve = tuned(tmp_path, 2, build_model=build, execution=execution(stage))
    expected, losses_of_loop = tuned_in_plain_torch(build())
    assert curve == pytest.approx(losses_of_loop, rel=1e-5)
    assert relative_distance(parameters, expected) < 1e-4


@pytest.mark.parametrize(("stage", "tied"), [(0, False), (3, True)])
def test_samples_held_to_a_reference_are_the_same_under_every_stage(
    stage: int, tied: bool, tmp_path: Path
) -> None:
    labels = LABELS if stage == 3 else None  # both at once
    build = functools.partial(toy_model, adapter=not tied, tied=tied, labels=labels, held=True)
    parameters, curve = tuned(
        tmp_path,
        2,
        build_model=build,
        open_schedule=toy_schedule(STEPS, held=True),
        execution=execution(stage),
    )
    expected, losses_of_loop = tuned_in_plain_torch(build(), held=True)
    assert curve == pytest.approx(losses_of_loop, rel=1e-5)
    assert relative_distance(parameters, expected) < 1e-4


def test_dropout_does_not_depend_on_the_worker_count(tmp_path: Path) -> None:
    build = functools.partial(toy_model, dropout=0.3)
    one, curve = tuned(tmp_path / "1", 1, build_model=build)
    two, other = tuned(tmp_path / "2", 2, build_model=build)
    _, without = tuned(tmp_path / "3", 1)
    assert other == pytest.approx(curve, rel=1e-5)
    assert relative_distance(two, one) < 1e-4
    assert curve != pytest.approx(without, rel=1e-4)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bfloat16_stays_close_to_float32_and_keeps_its_precision_in_masters(
    stage: int, tmp_path: Path, plain_loop: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    build = functools.partial(toy_model, dtype=torch.bfloat16)
    parameters, curve = tuned(tmp_path, 2, build_model=build, execution=execution(stage))
    assert curve == pytest.approx(plain_loop[1], rel=0.03)
    assert {value.dtype for value in parameters.values()} == {torch.bfloat16}


def test_activation_checkpointing_changes_nothing(
    tmp_path: Path, plain_loop: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    for stage in (1, 3):
        how = execution(stage, activation_checkpointing=True)
        parameters, curve = tuned(tmp_path / str(stage), 2, execution=how)
        assert curve == pytest.approx(plain_loop[1], rel=1e-5)
        assert relative_distance(parameters, plain_loop[0]) < 1e-4


def tune_with_memory(task: TuningTask, gib: float) -> None:
    engine._memory_gib = lambda _: gib  # type: ignore[assignment]
    summary = tune_rank(task, lambda metrics: None)
    if dist.get_rank() == 0:
        (Path(str(task.output_folder)) / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(("gib", "stage"), [(1.0, 0), (1e-6, 3)])
def test_the_stage_is_the_least_that_fits_the_workers(
    gib: float, stage: int, tmp_path: Path, plain_loop: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    options = GATHER_EVERYTHING if stage == 3 else {}
    execution = TuningExecution(zero_options=options)
    task = toy_task(tmp_path, open_schedule=toy_schedule(STEPS), execution=execution)
    assert run_workers(tune_with_memory, 2, task, gib) == [0, 0]
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert summary["zero_stage"] == stage and f"{gib:.1f} GiB" in summary["zero_reason"]
    assert losses(tmp_path) == pytest.approx(plain_loop[1], rel=1e-5)


def tune_with_small_head_slices(task: TuningTask) -> None:
    behaviorlm.model.lm_head.HEAD_ROWS = 4
    tune_rank(task, lambda metrics: None)


def test_workers_that_run_the_head_unequally_often_do_not_wait_for_each_other_under_zero_3(
    tmp_path: Path, plain_loop: tuple[dict[str, torch.Tensor], list[float]]
) -> None:
    task = toy_task(tmp_path, open_schedule=toy_schedule(STEPS), execution=execution(3))
    assert run_workers(tune_with_small_head_slices, 2, task) == [0, 0]
    assert losses(tmp_path) == pytest.approx(plain_loop[1], rel=1e-5)


def tune_without_a_compiler(task: TuningTask) -> None:
    os.environ.update(PATH="/nowhere", CC="/nowhere/cc", CXX="/nowhere/c++", TORCH_EXTENSIONS_DIR="/nowhere")
    tune_rank(task, lambda metrics: None)


@pytest.mark.parametrize("stage", [1, 3])
def test_no_compiler_is_needed(stage: int, tmp_path: Path) -> None:
    task = toy_task(tmp_path, open_schedule=toy_schedule((2,)), execution=execution(stage))
    assert run_workers(tune_without_a_compiler, 2, task) == [0, 0]


def expect_not_finite(task: TuningTask, folder: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"step 2 of 4.*learning_rate") as refused:
        tune_rank(task, lambda metrics: None)
    advised = re.findall(r"[a-z_]+\.learning_rate", str(refused.value))
    assert advised == [
        f"{key}.learning_rate"
        for key, of in RunSettings.model_fields.items()
        if isinstance(of.annotation, type) and issubclass(of.annotation, TuningConfig)
    ]
    (folder / f"refused-{os.environ['RANK']}").touch()


def test_a_loss_that_is_not_finite_stops_every_worker_before_the_weights_move(tmp_path: Path) -> None:
    wild = TuningConfig(learning_rate=1e30, clip_norm=0.0)
    task = toy_task(tmp_path, config=wild, execution=execution(1, checkpoint_every_steps=1))
    assert run_workers(expect_not_finite, 2, task, tmp_path) == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("refused-*")) == ["refused-0", "refused-1"]
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000001"]


def test_the_curve_counts_samples_tokens_and_parts(tmp_path: Path) -> None:
    tuned(tmp_path, 3)
    schedule = ToySchedule(STEPS)
    lines = [json.loads(line) for line in (tmp_path / "output" / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(len(STEPS)))
    for step, line in enumerate(lines):
        assert line["samples"] == len(schedule.sample_ids(step))
        assert line["tokens"] == sum(len(pack) for pack in schedule.packs(step))
        assert line["loss"] == pytest.approx(sum(line["parts"].values()))
        assert line["parts"].keys() == {"samples", "chat"}
        assert line["gradient_norm"] > 0
