"""What jobs.status says of stages that finished, run, failed, were stopped or whose process is gone."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from behaviorlm.errors import DataError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker, decode_record
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage
from behaviorlm_ray.storage import S3Location
from behaviorlm_ray.upkeep.stage_states import StageStatus, stages_under
from behaviorlm_ray.upkeep.status import status_lines
from jobs import status as status_job
from tests.platform.single_stage import run_stage

Body = Callable[[StageFolder], StageResult]


def run(root: Path, name: str, body: Body) -> None:
    run_stage(root, name, 1, {"a": 1}, {}, body, report=lambda line: None)


def one(root: Path, now: float | None = None) -> StageStatus:
    [found] = stages_under(str(root), now)
    return found


def test_a_finished_stage_has_its_rows_and_the_folder_of_its_files(tmp_path: Path) -> None:
    def body(folder: StageFolder) -> StageResult:
        assert isinstance(folder.output, Path) and isinstance(folder.checkpoints, Path)
        (folder.output / "table.txt").write_text("1")
        return StageResult(rows={"samples": 7})

    begun = time.time()
    run(tmp_path, "prepare", body)
    found = one(tmp_path)
    assert (found.stage, found.state, found.progress) == ("prepare", "finished", "7 samples")
    assert (Path(found.look) / "table.txt").is_file()
    assert found.changed is not None and begun - 1 <= found.changed <= time.time()  # begins are whole seconds


def test_a_running_stage_has_its_owner_and_progress(tmp_path: Path) -> None:
    def body(folder: StageFolder) -> StageResult:
        assert isinstance(folder.output, Path) and isinstance(folder.checkpoints, Path)
        told = {"step": 3, "steps": 12, "time": time.time()}
        (folder.checkpoints / "progress.json").write_text(json.dumps(told))
        [lease] = tmp_path.glob("stages/*/lease.json")
        record = decode_record(lease.read_bytes())
        assert record is not None
        found = one(tmp_path, record.heartbeat + 7)
        assert (found.state, found.progress) == ("running", "step 3 of 12")
        assert f"process {os.getpid()} on" in found.owner and "heartbeat 7 s ago" in found.owner
        return StageResult()

    run(tmp_path, "a_tune", body)
    assert one(tmp_path).state == "finished"


def test_a_stage_without_steps_has_the_files_that_it_wrote_so_far(tmp_path: Path) -> None:
    def body(folder: StageFolder) -> StageResult:
        assert isinstance(folder.output, Path) and isinstance(folder.checkpoints, Path)
        for name in ("a", "b"):
            (folder.output / f"{name}.parquet").write_text("")
        assert one(tmp_path).progress == "2 files"
        return StageResult()

    run(tmp_path, "score", body)


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (DataError("row 7 is bad\nand more"), "failed", "DataError: row 7 is bad"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(15), "interrupted", "SystemExit: 15"),
    ],
)
def test_a_stage_that_ended_early_has_its_last_error(
    tmp_path: Path, error: BaseException, state: str, text: str
) -> None:
    def body(folder: StageFolder) -> StageResult:
        assert isinstance(folder.output, Path) and isinstance(folder.checkpoints, Path)
        (folder.checkpoints / "step-00000050").mkdir()
        (folder.checkpoints / "step-00000050" / "checkpoint.json").write_text("{}")
        raise error

    with pytest.raises(type(error)):
        run(tmp_path, "b_tune", body)
    found = one(tmp_path)
    assert (found.state, found.error, found.progress) == (state, text, "checkpoint of step 50")
    assert Path(found.look).name == "error.json" and Path(found.look).is_file()


def test_a_killed_process_leaves_an_interrupted_stage(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from tests.platform.single_stage import run_stage\n"
        "run_stage(sys.argv[1], 'score', 1, {}, {}, lambda folder: os.kill(os.getpid(), 9))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    found = one(tmp_path)
    assert (found.state, found.error) == ("interrupted", "its process is gone")


def test_a_lease_of_another_machine_counts_until_it_expires(tmp_path: Path) -> None:
    path = tmp_path / "stages" / "score-0123456789abcdef" / "lease.json"
    lease = LeaseSeeker(path, 60).try_acquire()
    assert isinstance(lease, Lease)
    lease.release()
    record = replace(lease.record, machine="elsewhere/1/2", expires=lease.record.heartbeat + 60)
    path.write_text(json.dumps(record.__dict__))
    assert decode_record(path.read_bytes()) == record
    assert one(tmp_path, record.heartbeat + 30).state == "running"
    assert one(tmp_path, record.heartbeat + 90).state == "interrupted"


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    run(tmp_path, "prepare", lambda folder: StageResult())
    [manifest] = tmp_path.glob("stages/*/manifest.json")
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    found = one(tmp_path)
    assert found.state == "damaged" and "checksum" in found.error


def test_the_job_prints_a_table_and_says_where_results_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "prepare", lambda folder: StageResult(rows={"samples": 3}))
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "results.json").write_text("{}")
    assert status_job.main(["--root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:4] == ["run", "stage", "now", "state"] and printed[1] == "demo"
    assert printed[3].split()[:3] == ["stage", "state", "progress"]
    assert printed[4].startswith("prepare  finished  3 samples")
    assert f"results of a finished run: {tmp_path / 'demo'}" in printed
    assert printed[-1] == "1 stages: 1 finished"
    shutil.rmtree(tmp_path / "stages")
    assert "no stages" in status_lines(str(tmp_path))[0]


def test_a_root_on_s3_is_read_like_a_folder(s3_root: S3Location) -> None:
    def body(folder: StageFolder) -> StageResult:
        told = {"step": 3, "steps": 12, "time": time.time()}
        storage.write_replacing(folder.checkpoints / "progress.json", json.dumps(told).encode())
        [found] = stages_under(str(s3_root))
        assert (found.state, found.progress) == ("running", "step 3 of 12")
        raise DataError("row 7 is bad")

    with pytest.raises(DataError):
        run_stage(s3_root, "a_tune", 1, {}, {}, body, report=lambda line: None)
    [found] = stages_under(str(s3_root))
    assert (found.state, found.error) == ("failed", "DataError: row 7 is bad")
    assert found.look.startswith(f"{s3_root}/stages/a_tune-") and found.look.endswith("/error.json")
    storage.write_replacing(s3_root / "demo" / "results.json", b"{}")
    assert f"results of a finished run: {s3_root / 'demo'}" in status_lines(str(s3_root))


def test_a_run_is_listed_with_the_stage_that_it_asked_for_last_and_is_not_taken_for_another(
    tmp_path: Path,
) -> None:
    def told(name: str) -> list[str]:
        lines = status_lines(str(tmp_path))
        assert lines[0].split()[:3] == ["run", "stage", "now"]
        [line] = [line for line in lines if line.startswith(f"{name} ")]
        return line.split()

    def body(folder: StageFolder) -> StageResult:
        return StageResult(rows={"samples": 3})

    def breaks(folder: StageFolder) -> StageResult:
        raise DataError("row 7 is bad")

    for name in ("first", "second"):
        runner = Runner(tmp_path, RunRecord(tmp_path / name))
        made = Stage("prepare", 1, {}, {}, lambda folder, made: body(folder))
        runner.run(made)
        assert told(name)[1:5] == ["prepare", "finished", "3", "samples"]
    with pytest.raises(DataError):
        runner.run(Stage("a_tune", 1, {}, {"prepared": made}, lambda folder, made: breaks(folder)))
    assert told("second")[1:3] == ["a_tune", "failed"] and "row 7 is bad" in " ".join(told("second"))
    assert told("first")[1:3] == ["prepare", "finished"]


def test_a_finished_run_shows_beside_a_later_command_that_was_interrupted(tmp_path: Path) -> None:
    def stopped(folder: StageFolder) -> StageResult:
        raise KeyboardInterrupt

    folder = tmp_path / "demo"
    runner = Runner(tmp_path, RunRecord(folder))
    runner.run(Stage("prepare", 1, {}, {}, lambda folder, made: StageResult(rows={"samples": 3})))
    runner.run(Stage("evaluate", 1, {}, {}, lambda folder, made: StageResult(rows={"samples": 2})))
    (folder / "results.json").write_text("{}")
    RunRecord(folder).finished_with([output.folder.parents[1].name for output in runner.outputs.values()])
    with pytest.raises(KeyboardInterrupt):
        changed = Stage("prepare", 1, {"changed": True}, {}, lambda folder, made: stopped(folder))
        Runner(tmp_path, RunRecord(folder)).run(changed)
    lines = status_lines(str(tmp_path))
    assert lines[1].split()[:3] == ["demo", "prepare", "interrupted"]
    assert lines[2].split()[:6] == ["demo,", "before", "evaluate", "finished", "2", "samples"]
    assert f"results of a finished run: {folder}" in lines
