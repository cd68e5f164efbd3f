"""Of two writers one commits, whoever is cut short or killed; the other is told, waits, or takes over."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.lease import decode_record
from behaviorlm_ray.storage import Location
from tests.platform.damage import flip_a_bit
from tests.platform.single_stage import run_stage
from tests.platform.stages.stage_runs import (
    names_below,
    run,
    write,
    write_files,
)


def test_the_second_of_two_writers_is_told_and_uses_the_first_ones_output(root: Location) -> None:
    """The lease only saves work: without it, two attempts run at once, and still one output is committed."""
    told: list[str] = []
    winners: list[StageOutput] = []

    def overtaken(folder: StageFolder) -> StageResult:
        take_lease_away(folder)
        winners.append(run(root))
        write(folder.output / "late", "late")
        return StageResult()

    loser = run(root, overtaken, report=told.append)
    assert loser.manifest == winners[0].manifest
    assert loser.folder == winners[0].folder
    assert storage.list_folders(loser.folder.parent) == [loser.folder.name]
    assert any("another process committed first" in line for line in told)


def test_of_two_replacements_of_a_damaged_output_one_is_committed(root: Location) -> None:
    damaged = run(root).folder / "rows.arrow"
    flip_a_bit(damaged, damaged)
    winners: list[StageOutput] = []

    def overtaken(folder: StageFolder) -> StageResult:
        take_lease_away(folder)
        winners.append(run(root, report=lambda line: None))
        return write_files(folder)

    assert run(root, overtaken, report=lambda line: None).folder == winners[0].folder


def test_a_stale_holder_does_not_commit_while_another_one_is_at_work(root: Location) -> None:
    def away(folder: StageFolder) -> StageResult:
        lease = folder.output.parents[1] / "lease.json"
        record = decode_record(storage.read_bytes(lease) or b"")
        assert record is not None
        write(lease, json.dumps(asdict(replace(record, owner="another", machine="elsewhere"))))
        return write_files(folder)

    with pytest.raises(StorageError, match="another one took over") as raised:
        run(root, away)
    assert "what this attempt wrote is kept in" in raised.value.__notes__[0]
    assert not names_below(root, "*/manifest.json")
    [lease] = names_below(root, "*/lease.json")
    record = decode_record(storage.read_bytes(root / lease) or b"")
    assert record is not None and record.owner == "another"


def take_lease_away(folder: StageFolder) -> None:
    lease = folder.output.parents[1] / "lease.json"
    assert storage.remove_if(lease, storage.read_bytes(lease) or b"")


CHILD = """
import sys
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageResult
from tests.platform.single_stage import run_stage

def body(folder):
    storage.write_replacing(folder.checkpoints / "step_1", b"state")
    print("in body", len(storage.list_files(folder.checkpoints)), flush=True)
    sys.stdin.readline()
    storage.write_replacing(folder.output / "by", sys.argv[2].encode())
    return StageResult()

output = run_stage(
    sys.argv[1], "prepare", 1, {}, {}, body, lease_seconds=1.0, report=lambda line: print(line, flush=True)
)
print("reused" if output.reused else "ran", storage.read_text(output.folder / "by"), flush=True)
"""


def start(root: Location, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_runs_and_the_other_waits_and_uses_its_output(root: Location) -> None:
    with start(root, "first") as first:
        assert line_of(first) == "in body 1"
        with start(root, "second") as second:
            assert f"being run by process {first.pid} on" in line_of(second)
            first.communicate("go on\n")
            assert "finished by another process" in line_of(second)
            assert line_of(second) == "reused first"
    assert len(names_below(root, "stages/*/attempts/*/by")) == 1


def test_a_killed_process_is_taken_over_with_its_checkpoints(root: Location) -> None:
    with start(root, "first") as first:
        assert line_of(first) == "in body 1"
        [lease] = names_below(root, "stages/*/lease.json")
        first.kill()
        first.wait()
        record = decode_record(storage.read_bytes(root / lease) or b"")
        assert record is not None
        assert record.process == first.pid
    with start(root, "second") as second:
        if isinstance(root, Path):  # on S3 an attempt that has written nothing leaves nothing
            assert "unfinished attempt" in line_of(second)
        assert line_of(second) == "in body 1"
        assert second.communicate("go on\n")[0].strip() == "ran second"
    assert run_stage(root, "prepare", 1, {}, {}, write_files).reused
