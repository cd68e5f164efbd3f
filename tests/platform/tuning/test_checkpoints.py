"""Checkpoints: whole or not at all, verified, and continued by any number of workers under any ZeRO stage."""

import contextlib
import functools
import hashlib
import json
import os
import pickle
import resource
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.manifests import canonical_json
from behaviorlm_ray.storage import Location, S3Location
from behaviorlm_ray.tuning.checkpoints import (
    newest_checkpoint,
    remove_unfinished,
    verify_checkpoint,
    write_checkpoint,
)
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.step_folders import prune
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank
from tests.behaviorlm.planted_code import assert_pickle_acts, plant_pickle
from tests.platform.damage import DAMAGES, Damage, flip_a_bit
from tests.platform.tuning_runs import (
    assert_each_sample_once,
    dying_schedule,
    lineage_of,
    relative_distance,
    run_workers,
    toy_model,
    toy_schedule,
    toy_task,
    trained_parameters,
    tune_without_ray,
)

STEPS = (2, 3, 1, 3, 1, 2)
FILES = [
    "parameter.safetensors",
    "exp_avg.safetensors",
    "exp_avg_sq.safetensors",
    "steps.jsonl",
    "checkpoint.json",
]
IDENTITY = {"schedule": "a", "model": "b"}
CONSTANT_RATE = TuningConfig(learning_rate=0.01, clip_norm=0.5, schedule="constant")


def execution(stage: int = 1) -> TuningExecution:
    options = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    return TuningExecution.model_validate(
        {"zero_stage": stage, "zero_options": options, "checkpoint_every_steps": 2}
    )


def written(root: Location, step: int, identity: dict[str, str] = IDENTITY, scale: float = 1.0) -> Location:
    values = torch.full((7,), scale * step)
    state = {kind: {"weight": values.clone()} for kind in ("parameter", "exp_avg", "exp_avg_sq")}
    records = [{"step": number, "loss": scale} for number in range(step)]
    return write_checkpoint(root, step, state, {"weight": (7, 1)}, records, identity)


def lineage(folder: Path) -> Path:
    return folder / "output" / "lineage.jsonl"


def test_what_was_written_is_read_back(root: Location) -> None:
    written(root, 2)
    written(root, 10)
    checkpoint = newest_checkpoint(root, IDENTITY, print)
    assert checkpoint is not None and checkpoint.step == 10
    sent = pickle.loads(pickle.dumps(checkpoint))  # as worker 0 sends it to the others
    assert torch.equal(sent.read("exp_avg", "weight"), torch.full((7,), 10.0))
    assert [record["step"] for record in sent.records] == list(range(10))
    assert sent.shapes == {"weight": [7, 1]}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_announced_and_the_checkpoint_before_taken(
    damage: Damage, root: Location
) -> None:
    """The other run's has the same step and another state; its description, another schedule too."""
    written(root / "ours", 2)
    other = written(root / "theirs", 4, IDENTITY | {"schedule": "other"}, scale=2.0)
    for name in FILES:
        newest = written(root / "ours", 4)
        damage(newest / name, other / name)
        said: list[str] = []
        checkpoint = newest_checkpoint(root / "ours", IDENTITY, said.append)
        assert checkpoint is not None and checkpoint.step == 2
        assert len(said) == 1 and "step-00000004" in said[0]
        assert name in said[0] or "another schedule" in said[0]
    written(root / "ours", 4)
    repaired = newest_checkpoint(root / "ours", IDENTITY, print)
    assert repaired is not None and repaired.step == 4
    assert torch.equal(repaired.read("parameter", "weight"), torch.full((7,), 4.0))


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_pickles_are_not_run(root: Location, tmp_path: Path, zipped: bool) -> None:
    """Beside the files of a checkpoint they are not looked at; in their place they are damage."""
    marker, pickled = tmp_path / "marker", tmp_path / "planted.bin"
    plant_pickle(pickled, marker, zipped)
    planted = pickled.read_bytes()
    written(root, 2)
    newest = written(root, 4)
    for name in ("pytorch_model.bin", "optimizer.pt", "mp_rank_00_model_states.pt", "parameter.pkl"):
        storage.write_replacing(newest / name, planted)
    beside = newest_checkpoint(root, IDENTITY, print)
    assert beside is not None and beside.step == 4
    assert torch.equal(beside.read("parameter", "weight"), torch.full((7,), 4.0))
    for name in FILES:
        said: list[str] = []
        storage.write_replacing(written(root, 4) / name, planted)
        found = newest_checkpoint(root, IDENTITY, said.append)
        assert found is not None and found.step == 2
        assert "step-00000004" in said[0] and name in said[0]
    only = root / "only" / "step-00000001"
    storage.write_replacing(only / "pytorch_model.bin", planted)
    with pytest.raises(StorageError, match=r"step-00000001 is incomplete: checkpoint\.json is missing"):
        verify_checkpoint(only, IDENTITY)
    assert_pickle_acts(pickled, marker)


@pytest.mark.parametrize("name", ["parameter.safetensors", "steps.jsonl"])
def test_a_pickle_that_the_description_names_is_not_run(name: str, root: Location, tmp_path: Path) -> None:
    """Whoever can write the files of a checkpoint can write the checksums too."""
    marker, pickled = tmp_path / "marker", tmp_path / "planted.bin"
    plant_pickle(pickled, marker, zipped=True)
    newest = written(root, 4)
    storage.write_replacing(newest / name, pickled.read_bytes())
    described = json.loads(storage.read_text(newest / "checkpoint.json"))
    digest = asdict(storage.hash_files(tmp_path, ["planted.bin"])["planted.bin"])
    body = {key: value for key, value in described.items() if key != "checksum"}
    body["files"][name] = digest
    checksum = hashlib.sha256(canonical_json(body)).hexdigest()
    storage.write_replacing(newest / "checkpoint.json", json.dumps(body | {"checksum": checksum}).encode())
    with pytest.raises(StorageError, match=r"parameter of weight cannot be read|steps\.jsonl is damaged"):
        verify_checkpoint(newest, IDENTITY).read("parameter", "weight")
    assert_pickle_acts(pickled, marker)


def test_damage_after_the_check_is_found_when_a_worker_reads(s3_root: S3Location) -> None:
    written(s3_root, 4)
    checkpoint = newest_checkpoint(s3_root, IDENTITY, print)
    assert checkpoint is not None
    flip_a_bit(s3_root / "step-00000004" / "exp_avg.safetensors", s3_root)
    with pytest.raises(StorageError, match=r"step-00000004/exp_avg\.safetensors has changed"):
        checkpoint.read("exp_avg", "weight")


@pytest.mark.parametrize("number", [0, 3, 17, 40, 90, 200])
def test_no_bit_of_the_description_can_change_unseen(number: int, tmp_path: Path) -> None:
    path = Path(str(written(tmp_path, 4))) / "checkpoint.json"
    content = bytearray(path.read_bytes())
    content[number] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="step-00000004"):
        verify_checkpoint(tmp_path / "step-00000004", {})


def test_a_checkpoint_of_another_run_is_never_continued(root: Location) -> None:
    written(root, 2, IDENTITY | {"schedule": "other"})
    said: list[str] = []
    assert newest_checkpoint(root, IDENTITY, said.append) is None
    assert "another schedule" in said[0]


def test_a_checkpoint_whose_upload_was_cut_off_is_none(s3_root: S3Location) -> None:
    written(s3_root, 2)
    storage.write_replacing(s3_root / "step-00000004" / "parameter.safetensors", b"half")
    said: list[str] = []
    checkpoint = newest_checkpoint(s3_root, IDENTITY, said.append)
    assert checkpoint is not None and checkpoint.step == 2
    assert "step-00000004 is incomplete" in said[0]


def test_only_the_newest_and_what_is_being_read_are_kept_and_unfinished_ones_removed(root: Location) -> None:
    for step in (2, 4, 6, 8):
        written(root, step)
        if step == 2:
            continued = newest_checkpoint(root, IDENTITY, print)
    if isinstance(root, Path):
        (root / ".incomplete-x").mkdir()
    assert continued is not None
    prune(root, 2, 8, continued.folder)
    remove_unfinished(root)
    assert storage.list_folders(root) == ["step-00000002", "step-00000006", "step-00000008"]
    prune(root, 1, 8)
    assert storage.list_folders(root) == ["step-00000008"]


def test_a_run_goes_on_from_other_attempts_and_removes_no_later_ones_checkpoints(root: Location) -> None:
    written(root / "first", 2)
    written(root / "first", 4)
    written(root / "later", 6)  # of who took over while this one was away
    written(root, 3)  # where they lay in earlier versions
    earlier = [root / "first", root / "step-00000003"]
    if isinstance(root, Path):
        for place in (
            root / "first" / ".incomplete-x",
            root / ".incomplete-y",
            root / "later" / ".incomplete-z",
        ):
            place.mkdir()
            (place / "parameter.safetensors").write_bytes(b"half")
        earlier.append(root / ".incomplete-y")
        remove_unfinished(root / "own", earlier)
        assert [place.name for place in root.rglob(".incomplete-*")] == [".incomplete-z"]
    continued = newest_checkpoint(root / "own", IDENTITY, print, earlier)
    assert continued is not None and continued.folder == root / "first" / "step-00000004"
    written(root / "own", 5)
    prune(root / "own", 1, 5, continued.folder, earlier)
    left = {name.rpartition("/")[0] for name in storage.list_files(root) if name.endswith("checkpoint.json")}
    assert left == {"first/step-00000004", "own/step-00000005", "later/step-00000006"}


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_later_checkpoints_do_not_push_out_the_one_just_written(keep: int, root: Location) -> None:
    for step in (30, 40, 50):
        written(root, step)
    for step in (40, 50):
        flip_a_bit(root / f"step-{step:08d}" / "parameter.safetensors", root)
    continued = newest_checkpoint(root, IDENTITY, print)
    assert continued is not None and continued.step == 30
    written(root, 35)
    prune(root, keep, 35, continued.folder)
    assert storage.list_folders(root) == ["step-00000030", "step-00000035"]
    newest = newest_checkpoint(root, IDENTITY, print)
    assert newest is not None and newest.step == 35


def test_a_run_keeps_what_it_writes_before_the_step_of_a_damaged_checkpoint(tmp_path: Path) -> None:
    task = functools.partial(
        toy_task, tmp_path, open_schedule=toy_schedule(STEPS), execution=TuningExecution(keep_checkpoints=1)
    )
    folder = tmp_path / "checkpoints"
    assert tune_without_ray(task(stop_step=4), 1) == [0]
    flip_a_bit(folder / "step-00000004" / "parameter.safetensors", folder)
    assert tune_without_ray(task(stop_step=3), 1) == [0]
    assert storage.list_folders(folder) == ["step-00000003"]


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
        pytest.param(1, 2, 1, 3, id="more workers, ZeRO-1", marks=pytest.mark.slow),
        pytest.param(1, 2, 0, 3, id="more workers, ZeRO-1 to ZeRO-0"),
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
    attempts = {line["attempt"]: line["workers"] for line in lineage_of(lineage(tmp_path))}
    assert attempts == {"first": workers, "second": later_workers}
    assert_each_sample_once(lineage(tmp_path), STEPS)
    distance = relative_distance(trained_parameters(tmp_path / "output"), uninterrupted)
    assert distance == 0 if (stage, workers) == (later_stage, later_workers) else distance < 1e-4


@pytest.mark.slow
def test_a_killed_run_is_continued_from_s3(
    s3_root: S3Location, tmp_path: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    places = {"checkpoint_folder": s3_root / "checkpoints", "output_folder": s3_root / "output"}
    task = functools.partial(toy_task, tmp_path, config=CONSTANT_RATE, execution=execution(), **places)
    assert 0 not in tune_without_ray(task(open_schedule=dying_schedule(STEPS, 5, tmp_path / "died")), 2)
    assert storage.list_folders(s3_root) == ["checkpoints"]
    assert tune_without_ray(task(open_schedule=toy_schedule(STEPS), attempt="second"), 3) == [0, 0, 0]
    found = lineage_of(s3_root / "output" / "lineage.jsonl")
    assert {line["attempt"]: line["workers"] for line in found} == {"first": 2, "second": 3}
    assert [line["step"] for line in found] == list(range(len(STEPS)))
    copy = storage.local_copy(s3_root / "output")
    assert relative_distance(trained_parameters(copy), uninterrupted) < 1e-4


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
    lineage(tmp_path).unlink()
    assert tune_without_ray(task(attempt="second"), 1) == [0]
    assert {line["attempt"] for line in lineage_of(lineage(tmp_path))} == {"first"}
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
