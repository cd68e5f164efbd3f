"""Stages: run once, reused only if every byte verifies, one of two writers commits, failures resume."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from behaviorlm.errors import ConfigError, DataError, StorageError
from behaviorlm_ray.lease import decode_record
from behaviorlm_ray.stages import StageFolder, StageOutput, StageResult, plan_stage, run_stage

CONFIG = {"share": 0.1, "names": ["a", "b"]}
INPUTS = {"log": "0" * 64}
FILES = {"rows.arrow": b"\x00\x01" * 500, "model/weights.safetensors": b"weights", "model/config.json": b"{}"}


def write_files(folder: StageFolder, calls: list[str] | None = None) -> StageResult:
    for path, content in FILES.items():
        (folder.output / path).parent.mkdir(exist_ok=True)
        (folder.output / path).write_bytes(content)
    if calls is not None:
        calls.append("ran")
    return StageResult(rows={"events": 3}, metrics={"loss": 0.5}, warnings=["look"], cost={"tokens": 7})


def run(root: Path, body: Callable[[StageFolder], StageResult] = write_files, **changes: Any) -> StageOutput:
    arguments: dict[str, Any] = {"name": "prepare", "version": 1, "config": CONFIG, "inputs": INPUTS}
    return run_stage(root, body=body, **{**arguments, **changes})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0b100
    path.write_bytes(content)


def test_a_stage_runs_once_and_its_manifest_tells_everything(tmp_path: Path) -> None:
    calls: list[str] = []
    first = run(tmp_path, partial(write_files, calls=calls))
    second = run(tmp_path, partial(write_files, calls=calls))
    assert calls == ["ran"]
    assert (first.reused, second.reused) == (False, True)
    assert first.manifest == second.manifest
    assert first.folder == second.folder
    assert {path: (first.folder / path).read_bytes() for path in first.manifest.files} == FILES
    manifest = first.manifest
    assert manifest.rows == {"events": 3}
    assert manifest.metrics == {"loss": 0.5}
    assert manifest.warnings == ["look"]
    assert manifest.cost == {"tokens": 7}
    assert manifest.config == CONFIG
    assert manifest.inputs == INPUTS
    assert second.files("model/*") == [
        first.folder / "model/config.json",
        first.folder / "model/weights.safetensors",
    ]
    stage = first.folder.parents[1]
    left = {path.name for path in stage.iterdir() if not path.name.startswith(".")}
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


def test_an_input_counts_by_its_content_not_by_its_attempt(tmp_path: Path) -> None:
    first, again = run(tmp_path / "one"), run(tmp_path / "two")
    assert first.manifest.attempt != again.manifest.attempt
    scored = run(tmp_path, name="score", inputs={"prepare": first.manifest})
    assert run(tmp_path, name="score", inputs={"prepare": again.manifest}).reused
    assert scored.manifest.inputs == {"prepare": first.manifest.content_hash}


def test_a_moved_root_is_still_reused(tmp_path: Path) -> None:
    run(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    moved = run(tmp_path / "two")
    assert moved.reused
    assert moved.files("rows.arrow")[0].read_bytes() == FILES["rows.arrow"]


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, Path.unlink])
@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_damage_to_any_file_is_named_and_replaced(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    first = run(tmp_path)
    damage(first.folder.parents[1] / file if file == "manifest.json" else first.folder / file)
    plan = plan_stage(tmp_path, "prepare", 1, CONFIG, INPUTS)
    assert plan.action == "run"
    assert file in plan.reason
    told: list[str] = []
    second = run(tmp_path, report=told.append)
    assert not second.reused
    assert any(file in line and "runs again" in line for line in told)
    assert {path: (second.folder / path).read_bytes() for path in second.manifest.files} == FILES
    assert run(tmp_path, report=told.append).manifest == second.manifest


def test_a_manifest_of_another_stage_is_not_trusted(tmp_path: Path) -> None:
    theirs, ours = run(tmp_path, version=2), run(tmp_path)
    path = ours.folder.parents[1] / "manifest.json"
    path.write_bytes((theirs.folder.parents[1] / "manifest.json").read_bytes())
    told: list[str] = []
    assert not run(tmp_path, report=told.append).reused
    assert "belongs to another stage" in told[0]


def test_plan_says_reuse_run_or_unknown_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = plan_stage(root, "prepare", 1, CONFIG, INPUTS)
    assert (plan.action, plan.output) == ("run", None)
    assert not root.exists()
    made = run(root)
    plan = plan_stage(root, "prepare", 1, CONFIG, INPUTS)
    assert plan.action == "reuse"
    assert plan.output is not None
    assert plan.output.manifest == made.manifest
    unknown = plan_stage(root, "score", 1, {}, {"b": None, "prepare": made.manifest, "a": None})
    assert (unknown.action, unknown.reason) == ("unknown", "depends on a, b, which must run first")


def test_a_body_that_raises_leaves_no_manifest_keeps_its_attempt_and_can_run_again(tmp_path: Path) -> None:
    def fail(folder: StageFolder) -> StageResult:
        (folder.output / "partial").write_text("so far")
        (folder.checkpoints / "step_5").write_text("state")
        raise DataError("row 7 of log.csv is bad")

    with pytest.raises(DataError, match="row 7") as raised:
        run(tmp_path, fail)
    [attempt] = (tmp_path / "stages").glob("prepare-*/attempts/*")
    assert str(attempt) in raised.value.__notes__[0]
    assert (attempt / "partial").read_text() == "so far"
    error = json.loads((attempt / "error.json").read_text())
    assert (error["type"], error["message"]) == ("DataError", "row 7 of log.csv is bad")
    assert "in fail" in "".join(error["traceback"])
    assert not list(tmp_path.glob("stages/*/manifest.json"))
    assert not list(tmp_path.glob("stages/*/lease.json"))
    assert plan_stage(tmp_path, "prepare", 1, CONFIG, INPUTS).action == "run"

    def resume(folder: StageFolder) -> StageResult:
        assert (folder.checkpoints / "step_5").read_text() == "state"
        return write_files(folder)

    done = run(tmp_path, resume)
    assert not done.reused
    assert sorted(done.manifest.files) == sorted(FILES)
    assert not list(tmp_path.glob("stages/*/checkpoints"))
    assert (attempt / "error.json").exists()


def test_a_link_in_the_output_fails_the_stage(tmp_path: Path) -> None:
    def link(folder: StageFolder) -> StageResult:
        (folder.output / "link").symlink_to("/etc/hostname")
        return StageResult()

    with pytest.raises(StorageError, match="is a link"):
        run(tmp_path, link)


@pytest.mark.parametrize("name", ["", "A", "../up", "a/b", "a-b", "1a"])
def test_stage_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a stage is named"):
        run(tmp_path, name=name)


def test_the_second_of_two_writers_is_told_and_uses_the_first_ones_output(tmp_path: Path) -> None:
    """The lease only saves work: without it, two attempts run at once, and still one output is committed."""
    told: list[str] = []
    winners: list[StageOutput] = []

    def overtaken(folder: StageFolder) -> StageResult:
        (folder.output.parents[1] / "lease.json").unlink()
        winners.append(run(tmp_path))
        (folder.output / "late").write_text("late")
        return StageResult()

    loser = run(tmp_path, overtaken, report=told.append)
    assert loser.manifest == winners[0].manifest
    assert loser.folder == winners[0].folder
    assert [path.name for path in loser.folder.parent.iterdir()] == [loser.folder.name]
    assert any("another process committed first" in line for line in told)


def test_of_two_replacements_of_a_damaged_output_one_is_committed(tmp_path: Path) -> None:
    flip_one_bit(run(tmp_path).folder / "rows.arrow")
    winners: list[StageOutput] = []

    def overtaken(folder: StageFolder) -> StageResult:
        (folder.output.parents[1] / "lease.json").unlink()
        winners.append(run(tmp_path, report=lambda line: None))
        return write_files(folder)

    assert run(tmp_path, overtaken, report=lambda line: None).folder == winners[0].folder


CHILD = """
import sys
from behaviorlm_ray.stages import StageResult, run_stage

def body(folder):
    (folder.checkpoints / "step_1").write_text("state")
    print("in body", len(list(folder.checkpoints.iterdir())), flush=True)
    sys.stdin.readline()
    (folder.output / "by").write_text(sys.argv[2])
    return StageResult()

output = run_stage(
    sys.argv[1], "prepare", 1, {}, {}, body, lease_seconds=1.0, report=lambda line: print(line, flush=True)
)
print("reused" if output.reused else "ran", (output.folder / "by").read_text(), flush=True)
"""


def start(root: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_runs_and_the_other_waits_and_uses_its_output(tmp_path: Path) -> None:
    with start(tmp_path, "first") as first:
        assert line_of(first) == "in body 1"
        with start(tmp_path, "second") as second:
            assert f"being run by process {first.pid} on" in line_of(second)
            first.communicate("go on\n")
            assert "finished by another process" in line_of(second)
            assert line_of(second) == "reused first"
    assert len(list(tmp_path.glob("stages/*/attempts/*"))) == 1


def test_a_killed_process_is_taken_over_with_its_checkpoints(tmp_path: Path) -> None:
    with start(tmp_path, "first") as first:
        assert line_of(first) == "in body 1"
        [lease] = tmp_path.glob("stages/*/lease.json")
        first.kill()
        first.wait()
        record = decode_record(lease.read_bytes())
        assert record is not None
        assert record.process == first.pid
    with start(tmp_path, "second") as second:
        assert "unfinished attempt" in line_of(second)
        assert line_of(second) == "in body 1"
        assert second.communicate("go on\n")[0].strip() == "ran second"
    assert run_stage(tmp_path, "prepare", 1, {}, {}, write_files).reused


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
        (folder.checkpoints / "step_5").write_text("state")
        (folder.output / "first").write_text("first")
        fill(folder.output / "large" if full_disk.is_mount() else Path("/dev/full"))
        return StageResult()

    finished = run(full_disk, name="earlier")
    with pytest.raises(StorageError, match="Free some space and run the same command again"):
        run(full_disk, fill_up)
    assert not list(full_disk.glob("stages/prepare-*/manifest.json"))
    assert not list(full_disk.glob("stages/prepare-*/lease.json"))
    for large in full_disk.glob("stages/prepare-*/attempts/*/*"):
        large.unlink()

    def resume(folder: StageFolder) -> StageResult:
        assert (folder.checkpoints / "step_5").read_text() == "state"
        return write_files(folder)

    assert not run(full_disk, resume, report=lambda line: None).reused
    assert run(full_disk).reused
    assert run(full_disk, name="earlier").manifest == finished.manifest
