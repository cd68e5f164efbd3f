"""Stages: run once, reused only if every byte verifies, failures resume."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from behaviorlm.errors import ConfigError, DataError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import plan_stage
from behaviorlm_ray.stages.leftovers import remove_scratch
from behaviorlm_ray.storage import Location
from tests.platform.damage import DAMAGES, Damage
from tests.platform.single_stage import run_stage
from tests.platform.stages.stage_runs import (
    CONFIG,
    FILES,
    INPUTS,
    OTHER_FILES,
    contents,
    names_below,
    run,
    write,
    write_files,
)


def test_an_attempt_sees_those_that_were_cut_short_and_not_a_committed_one(root: Location) -> None:
    seen: list[list[Location]] = []
    wrote: list[list[str]] = []

    def cut_short(folder: StageFolder) -> StageResult:
        write_files(folder)
        raise DataError("no more")

    def whole(folder: StageFolder) -> StageResult:
        seen.append(list(folder.earlier))
        assert folder.stage == folder.output.parent.parent.name
        wrote.append(storage.list_files(seen[-1][0]))
        return write_files(folder)

    with pytest.raises(DataError):
        run(root, cut_short)
    committed = run(root, whole)
    [[earlier]] = seen
    assert earlier != committed.folder
    assert wrote == [sorted([*FILES, "error.json"])]
    storage.write_replacing(committed.folder / "rows.arrow", b"damaged")
    assert run(root, whole).folder != committed.folder
    assert seen == [[earlier], [earlier]]


def test_what_came_to_nothing_is_removed_after_a_commit_and_still_counts_as_an_attempt(
    root: Location,
) -> None:
    def fail(folder: StageFolder) -> StageResult:
        write_files(folder)
        raise DataError("no more")

    with pytest.raises(DataError):
        run(root, fail)
    [stage] = storage.list_folders(root / "stages")
    attempts = root / "stages" / stage / "attempts"
    [failed] = storage.list_folders(attempts)
    error = storage.read_bytes(attempts / failed / "error.json")
    write(attempts / "killed" / "model" / "large", "what a process wrote that was killed")
    output = run(root, report=lambda line: None)
    assert storage.list_files(attempts / failed) == ["error.json"]
    assert storage.read_bytes(attempts / failed / "error.json") == error
    assert storage.list_files(attempts / "killed") == ["removed.txt"]
    assert contents(output) == FILES and run(root).reused
    assert {failed, "killed", output.folder.name} == set(storage.list_folders(attempts))


def test_an_attempt_whose_lease_another_process_had_meanwhile_is_not_committed(root: Location) -> None:
    def body(folder: StageFolder) -> StageResult:
        write(folder.output / "scratch" / "00001", "events")
        lease = folder.output.parents[1] / "lease.json"
        assert storage.remove_if(lease, storage.read_bytes(lease) or b"")  # as who took over leaves it
        remove_scratch([folder.output])
        write(folder.output / "part", "what was left of them")
        return StageResult()

    with pytest.raises(StorageError, match="another one took over"):
        run_stage(root, "prepare", 1, {}, {}, body)
    assert plan_stage(root, "prepare", 1, {}, {}).output is None


def test_scratch_of_earlier_attempts_is_gone_before_the_next_one_writes_and_the_rest_is_not(
    root: Location,
) -> None:
    write_there = run(root / "elsewhere").folder.parents[1]
    attempts = root / "stages" / write_there.name / "attempts"
    write(attempts / "killed" / "scratch" / "00001" / "0.arrows", "a copy of the log")
    write(attempts / "scoring" / "scores" / "windows-1.parquet", "scores to go on from")

    def look(folder: StageFolder) -> StageResult:
        assert folder.earlier == [attempts / "killed", attempts / "scoring"]
        assert storage.list_files(attempts / "killed") == ["removed.txt"]
        assert storage.list_files(attempts / "scoring") == ["scores/windows-1.parquet"]
        return write_files(folder)

    assert contents(run(root, look, report=lambda line: None)) == FILES


def test_a_stage_runs_once_and_its_manifest_tells_everything(root: Location) -> None:
    calls: list[str] = []
    first = run(root, partial(write_files, calls=calls))
    second = run(root, partial(write_files, calls=calls))
    assert calls == ["ran"]
    assert (first.reused, second.reused) == (False, True)
    assert first.manifest == second.manifest
    assert first.folder == second.folder
    assert contents(first) == FILES
    manifest = first.manifest
    assert manifest.rows == {"events": 3}
    assert manifest.metrics == {"loss": 0.5}
    assert manifest.warnings == ["look"]
    assert manifest.cost == {"tokens": 7}
    assert manifest.config == CONFIG
    assert manifest.inputs == INPUTS
    assert second.files("model/*") == [
        first.folder / "model/adapter_config.json",
        first.folder / "model/adapter_model.safetensors",
    ]
    stage = first.folder.parents[1]
    left = {name.partition("/")[0] for name in storage.list_files(stage) if not name.startswith(".")}
    assert left == {"manifest.json", "attempts"}
    assert stage.name == f"prepare-{manifest.fingerprint[:16]}"


@pytest.mark.parametrize(
    "change",
    [{"name": "score"}, {"version": 2}, {"config": {**CONFIG, "share": 0.2}}, {"inputs": {"log": "1" * 64}}],
)
def test_another_identity_runs_on_its_own(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path)
    assert not run(tmp_path, **change).reused
    assert run(tmp_path).reused


def test_an_input_counts_by_its_content_not_by_its_attempt(root: Location) -> None:
    first, again = run(root / "one"), run(root / "two")
    assert first.manifest.attempt != again.manifest.attempt
    scored = run(root, name="score", inputs={"prepare": first.manifest})
    assert run(root, name="score", inputs={"prepare": again.manifest}).reused
    assert scored.manifest.inputs == {"prepare": first.manifest.content_hash}


def test_the_identity_of_a_stage_does_not_depend_on_where_it_is_kept(root: Location, tmp_path: Path) -> None:
    here, there = run(root), run(tmp_path / "elsewhere")
    assert here.manifest.fingerprint == there.manifest.fingerprint
    assert here.manifest.content_hash == there.manifest.content_hash


def test_a_moved_root_is_still_reused(root: Location) -> None:
    run(root / "one")
    for name in storage.list_files(root / "one"):
        storage.write_replacing(root / "two" / name, storage.read_bytes(root / "one" / name) or b"")
    moved = run(root / "two")
    assert moved.reused
    assert storage.read_bytes(moved.files("rows.arrow")[0]) == FILES["rows.arrow"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_named_and_replaced(root: Location, damage: Damage) -> None:
    first = run(root)
    other = run(root, partial(write_files, files=OTHER_FILES), version=2)
    for file in [*FILES, "manifest.json"]:
        ours, theirs = (
            output.folder.parents[1] / file if file == "manifest.json" else output.folder / file
            for output in (first, other)
        )
        intact = storage.read_text(ours)
        damage(ours, theirs)
        plan = plan_stage(root, "prepare", 1, CONFIG, INPUTS)
        assert (plan.action, file in plan.reason) == ("run", True), plan.reason
        if file != "manifest.json":
            write(ours, intact)
    told: list[str] = []
    second = run(root, report=told.append)
    assert not second.reused
    assert any("manifest.json" in line and "runs again" in line for line in told)
    damage(second.folder / "rows.arrow", other.folder / "rows.arrow")
    third = run(root, report=told.append)
    assert not third.reused
    assert any("rows.arrow" in line and "runs again" in line for line in told)
    assert contents(third) == FILES
    assert run(root, report=told.append).manifest == third.manifest


def test_plan_says_reuse_run_or_unknown_and_writes_nothing(root: Location) -> None:
    plan = plan_stage(root, "prepare", 1, CONFIG, INPUTS)
    assert (plan.action, plan.output) == ("run", None)
    assert storage.list_files(root) == []
    made = run(root)
    plan = plan_stage(root, "prepare", 1, CONFIG, INPUTS)
    assert plan.action == "reuse"
    assert plan.output is not None
    assert plan.output.manifest == made.manifest
    unknown = plan_stage(root, "score", 1, {}, {"b": None, "prepare": made.manifest, "a": None})
    assert (unknown.action, unknown.reason) == ("unknown", "depends on a, b, which must run first")


def test_a_body_that_raises_leaves_no_manifest_keeps_its_attempt_and_can_run_again(root: Location) -> None:
    def fail(folder: StageFolder) -> StageResult:
        write(folder.output / "partial", "so far")
        write(folder.checkpoints / "step_5", "state")
        raise DataError("row 7 of log.csv is bad")

    with pytest.raises(DataError, match="row 7") as raised:
        run(root, fail)
    [stage] = storage.list_folders(root / "stages")
    [name] = storage.list_folders(root / "stages" / stage / "attempts")
    attempt = root / "stages" / stage / "attempts" / name
    assert str(attempt) in raised.value.__notes__[0]
    assert storage.read_text(attempt / "partial") == "so far"
    error = json.loads(storage.read_text(attempt / "error.json"))
    assert (error["type"], error["message"]) == ("DataError", "row 7 of log.csv is bad")
    assert "in fail" in "".join(error["traceback"])
    assert not names_below(root, "*/manifest.json")
    assert not names_below(root, "*/lease.json")
    assert plan_stage(root, "prepare", 1, CONFIG, INPUTS).action == "run"

    def resume(folder: StageFolder) -> StageResult:
        [checkpoints] = folder.earlier_checkpoints
        assert storage.read_text(checkpoints / "step_5") == "state"
        return write_files(folder)

    done = run(root, resume)
    assert not done.reused
    assert sorted(done.manifest.files) == sorted(FILES)
    assert not names_below(root, "*/checkpoints/*")
    assert storage.read_bytes(attempt / "error.json") is not None


def test_a_link_in_the_output_fails_the_stage(root: Location) -> None:
    def link(folder: StageFolder) -> StageResult:
        with storage.writing(folder.output) as output:
            (output / "link").symlink_to("/etc/hostname")
        return StageResult()

    with pytest.raises(StorageError, match="is a link"):
        run(root, link)


@pytest.mark.parametrize("name", ["", "A", "../up", "a/b", "a-b", "1a"])
def test_stage_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a stage is named"):
        run(tmp_path, name=name)


def fill_by_python(path: Path) -> None:
    with open(path, "wb") as stream:
        for _ in range(100):
            stream.write(b"x" * 10_000)


def fill_by_arrow(path: Path) -> None:
    table = pa.table({"number": np.random.default_rng(0).integers(0, 2**60, 100_000)})
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def fill_by_safetensors(path: Path) -> None:
    save_file({"weights": np.zeros(200_000, dtype=np.float32)}, path)


@pytest.mark.parametrize("fill", [fill_by_python, fill_by_arrow, fill_by_safetensors])
def test_a_full_disk_fails_with_advice_and_resumes_when_there_is_room(
    full_disk: Path, fill: Callable[[Path], None]
) -> None:
    def fill_up(folder: StageFolder) -> StageResult:
        write(folder.checkpoints / "step_5", "state")
        write(folder.output / "first", "first")
        write(folder.output / "scratch" / "copy", "of the log")
        fill(Path(str(folder.output / "large")) if full_disk.is_mount() else Path("/dev/full"))
        return StageResult()

    finished = run(full_disk, name="earlier")
    with pytest.raises(StorageError, match="Free some space and run the same command again") as raised:
        run(full_disk, fill_up)
    [attempt] = full_disk.glob("stages/prepare-*/attempts/*")
    assert f"{attempt}; it may be removed to free space" in raised.value.__notes__[0]
    assert not (attempt / "scratch").exists()
    assert not list(full_disk.glob("stages/prepare-*/manifest.json"))
    assert not list(full_disk.glob("stages/prepare-*/lease.json"))
    for large in full_disk.glob("stages/prepare-*/attempts/*/*"):
        large.unlink()

    def resume(folder: StageFolder) -> StageResult:
        [checkpoints] = folder.earlier_checkpoints
        assert storage.read_text(checkpoints / "step_5") == "state"
        return write_files(folder)

    assert not run(full_disk, resume, report=lambda line: None).reused
    assert run(full_disk).reused
    assert run(full_disk, name="earlier").manifest == finished.manifest
