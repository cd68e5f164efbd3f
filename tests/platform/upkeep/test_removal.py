"""What jobs.clean would remove, what it leaves alone, and what a root is like after a removal that was cut short."""

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from behaviorlm.errors import DataError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker, decode_record
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.storage import Location, S3Location
from behaviorlm_ray.upkeep import removal
from behaviorlm_ray.upkeep.reach import asked_for
from behaviorlm_ray.upkeep.removal import Found, find_removable, remove
from behaviorlm_ray.upkeep.stage_states import stages_under
from tests.platform.single_stage import run_stage
from tests.platform.upkeep.stored_stages import below_stages, chain, finished_stage, folder_of


def found_of(root: Location, *kinds: str, older_than: float = 0.0, now: float | None = None) -> Found:
    return find_removable(str(root), kinds or ("attempts", "stages"), older_than, now)  # type: ignore[arg-type]


def remove_all(root: Location, *kinds: str) -> list[str]:
    return [remove(item, str(root)) for item in found_of(root, *kinds).removable]


def bytes_below(root: Location) -> dict[str, bytes | None]:
    """Everything that readers may open; a lease's own lock file says nothing."""
    return {
        name: storage.read_bytes(root / name)
        for name in storage.list_files(root)
        if not name.endswith(".lock")
    }


def test_a_reachable_chain_is_kept_whole_and_the_rest_goes(root: Location) -> None:
    wanted = chain(root, "wanted")
    RunRecord(root / "demo").asks_for(folder_of(wanted[-1]))
    before = bytes_below(root)
    other = chain(root, "other")
    found = found_of(root)
    assert {item.place.name for item in found.removable} == {folder_of(output) for output in other}
    assert all(item.size > len("other") for item in found.removable)
    assert remove_all(root) == [""] * len(other)
    assert below_stages(root) == {folder_of(output) for output in wanted}
    assert bytes_below(root) == before
    assert all(output.reused for output in chain(root, "wanted"))
    assert not found_of(root).removable


def test_stages_of_a_run_that_nobody_can_tell_are_all_left(root: Location) -> None:
    stage = finished_stage(root, "prepare", "other")
    storage.write_replacing(root / "demo" / "results.json", b"of a stage that is gone")
    storage.write_replacing(root / "stages" / folder_of(stage) / "attempts" / "dead" / "rows", b"12345")
    found = found_of(root)
    assert len(found.refused) == 1 and [item.kind for item in found.removable] == ["attempts"]


def test_of_a_finished_stage_all_but_the_committed_attempt_goes(root: Location) -> None:
    stage = finished_stage(root, "score", "kept")
    place = root / "stages" / folder_of(stage)
    for path in ("attempts/dead/rows", "attempts/failed/error.json", "checkpoints/step-00000001/weights"):
        storage.write_replacing(place / path, b"12345")
    storage.write_replacing(place / "checkpoints" / "progress.json", b"")  # there in earlier versions
    [item] = found_of(root, "attempts").removable
    assert (item.size, item.why) == (15, "2 attempts beside the committed one and checkpoints")
    assert remove(item, str(root)) == ""
    attempts = f"attempts/{stage.manifest.attempt}"
    kept = [name for name in storage.list_files(place) if not name.startswith(".")]
    assert kept == [f"{attempts}/rows.txt", "manifest.json"]
    assert not found_of(root, "attempts").removable
    assert finished_stage(root, "score", "kept").reused


def test_an_unfinished_stage_that_a_run_asks_for_keeps_everything(root: Location) -> None:
    def fail(folder: StageFolder) -> StageResult:
        storage.write_replacing(folder.output / "rows", b"12345")
        storage.write_replacing(folder.checkpoints / "progress.json", b"{}")
        raise DataError("no more")

    with pytest.raises(DataError):
        run_stage(root, "b_tune", 1, {}, {}, fail, report=lambda line: None)
    [name] = below_stages(root)
    assert [item.kind for item in found_of(root).removable] == ["stages"]
    RunRecord(root / "demo").asks_for(name)
    assert not found_of(root).removable


def test_a_stage_that_is_being_run_or_repaired_is_left_alone(root: Location) -> None:
    seen: list[Found] = []

    def body(folder: StageFolder) -> StageResult:
        storage.write_replacing(folder.output / "rows", b"12345")
        seen.append(found_of(root))
        return StageResult()

    run_stage(root, "prepare", 1, {}, {}, body, report=lambda line: None)
    assert not seen[0].removable and f"process {os.getpid()} on" in seen[0].left[0]
    [item] = found_of(root).removable
    lease = LeaseSeeker(item.place / "lease.json", 60).try_acquire()
    assert isinstance(lease, Lease)
    with lease:  # taken after the list was made
        before = bytes_below(root)
        assert "its lease is held by process" in remove(item, str(root))
        assert bytes_below(root) == before
    assert not found_of(root).left
    assert remove(item, str(root)) == "" and below_stages(root) == set()


def test_a_stage_that_was_asked_for_since_it_was_listed_stays(root: Location) -> None:
    stage = finished_stage(root, "prepare", "other")
    [item] = found_of(root).removable
    RunRecord(root / "demo").asks_for(folder_of(stage))
    assert "a job has asked for it" in remove(item, str(root))
    assert finished_stage(root, "prepare", "other").reused


def test_a_job_that_asks_while_a_stage_is_being_removed_gets_it_back(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = finished_stage(root, "prepare", "other")
    [item] = found_of(root).removable
    asked: list[set[str]] = []

    def asks(place: Location) -> set[str]:
        asked.append(asked_for(place))
        RunRecord(root / "demo").asks_for(folder_of(stage))
        return asked[-1]

    monkeypatch.setattr(removal, "asked_for", asks)
    assert "a job has asked for it" in remove(item, str(root))
    assert asked == [set(), {folder_of(stage)}]
    assert finished_stage(root, "prepare", "other").reused


def test_a_removal_that_lost_its_lease_leaves_what_the_new_owner_writes(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_stage(root, "prepare", "other")
    [item] = found_of(root).removable

    def taken_over(place: Location) -> set[str]:
        lease = item.place / "lease.json"
        storage.remove_if(lease, storage.read_bytes(lease) or b"")
        storage.write_replacing(item.place / "attempts" / "new" / "rows", b"12345")
        return set()

    monkeypatch.setattr(removal, "asked_for", taken_over)
    with pytest.raises(StorageError, match="another one took over"):
        remove(item, str(root))
    assert storage.read_bytes(item.place / "attempts" / "new" / "rows") == b"12345"


def test_beside_a_damaged_output_attempts_are_left_for_its_repair(root: Location) -> None:
    stage = finished_stage(root, "score", "kept")
    storage.write_replacing(root / "stages" / folder_of(stage) / "attempts" / "repair" / "rows", b"12345")
    [item] = found_of(root, "attempts").removable
    storage.write_replacing(stage.folder / "rows.txt", b"rotten")
    assert "its output is damaged" in remove(item, str(root))
    assert storage.read_bytes(stage.folder.parent / "repair" / "rows") == b"12345"


def test_a_lease_of_a_machine_that_is_gone_is_taken_over_after_a_while(root: Location) -> None:
    stage = finished_stage(root, "prepare", "other")
    path = root / "stages" / folder_of(stage) / "lease.json"
    lease = LeaseSeeker(path, 60).try_acquire()
    assert isinstance(lease, Lease)
    record = replace(lease.record, machine="elsewhere/1/2", expires=lease.record.heartbeat + 60)
    lease.release()
    storage.write_replacing(path, json.dumps(asdict(record)).encode())
    assert decode_record(storage.read_bytes(path) or b"") == record
    assert "process" in found_of(root, now=record.heartbeat + 30).left[0]
    storage.write_replacing(path, json.dumps(asdict(replace(record, expires=time.time() - 1))).encode())
    [item] = found_of(root).removable
    assert remove(item, str(root), lease_seconds=1.0) == "" and below_stages(root) == set()


def test_a_removal_that_was_cut_short_leaves_a_root_that_opens_and_the_next_finishes_it(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = finished_stage(root, "prepare", "wanted")
    RunRecord(root / "demo").asks_for(folder_of(wanted))
    other = finished_stage(root, "prepare", "other")
    [item] = found_of(root).removable
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):

        def stop(*arguments: object) -> None:
            raise KeyboardInterrupt

        broken.setattr(storage, "remove_folder", stop)
        remove(item, str(root))
    assert (storage.read_bytes(item.place / "manifest.json") or b"").startswith(b"being removed by ")
    assert storage.read_bytes(other.folder / "rows.txt") == b"other"
    states = {one.folder: one.state for one in stages_under(str(root))}
    assert states == {folder_of(wanted): "finished", folder_of(other): "damaged"}
    assert remove_all(root) == [""]
    assert below_stages(root) == {folder_of(wanted)}
    assert not finished_stage(root, "prepare", "other").reused


def test_only_what_is_old_enough_goes(root: Location) -> None:
    finished_stage(root, "prepare", "other")
    now = time.time()
    assert not found_of(root, older_than=3600.0, now=now).removable
    assert len(found_of(root, older_than=3600.0, now=now + 3700).removable) == 1


def test_what_the_project_has_not_made_is_nobodys_to_remove(tmp_path: Path) -> None:
    for name in ("mine", "prepare-old", "Prepare-0123456789abcdef"):
        (tmp_path / "stages" / name).mkdir(parents=True)
        (tmp_path / "stages" / name / "file").write_text("mine")
    assert not found_of(tmp_path).removable


def test_copies_of_objects_go_unless_a_job_is_at_work(s3_root: S3Location) -> None:
    stage = finished_stage(s3_root, "prepare", "content")
    RunRecord(s3_root / "demo").asks_for(folder_of(stage))
    assert not found_of(s3_root, "copies").removable
    folder = storage.local_copy(stage.folder)
    assert (folder / "rows.txt").read_text() == "content"
    [item] = found_of(s3_root, "copies").removable
    assert (item.size, item.why.split()[0]) == (7, "1")  # its file and the link to it are one
    assert not found_of(s3_root, "copies", older_than=3600.0).removable
    lease = LeaseSeeker(s3_root / "stages" / folder_of(stage) / "lease.json", 60).try_acquire()
    assert isinstance(lease, Lease)
    with lease:
        found = found_of(s3_root, "copies")
        assert not found.removable and "a job is at work below this root" in found.left[0]
    unfinished = storage.copies_folder() / ".0123.4567"
    unfinished.write_text("being fetched")
    assert remove(item, str(s3_root)) == ""
    assert not folder.exists() and unfinished.exists()
    assert (storage.local_copy(stage.folder) / "rows.txt").read_text() == "content"
