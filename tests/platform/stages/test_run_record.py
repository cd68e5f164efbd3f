"""What a run says of the stages that it asked for: by several commands, by several processes, by an earlier version."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from behaviorlm_ray import storage
from behaviorlm_ray.stages.run_record import Asked, RunRecord, decode_asked, read_asked
from behaviorlm_ray.storage import Location


def test_commands_add_to_a_record_and_handed_over_results_replace_it(root: Location) -> None:
    folder = root / "demo"
    assert read_asked(folder) == Asked()
    for name in ("prepare-1", "a_tune-1"):
        RunRecord(folder).asks_for(name)
    RunRecord(folder).asks_for("prepare-1")  # jobs.prepare again, which needs no more
    assert read_asked(folder) == Asked(("a_tune-1", "prepare-1"))
    RunRecord(folder).finished_with(["prepare-1", "evaluate-1"])
    RunRecord(folder).asks_for("prepare-2")
    whole = ("prepare-1", "evaluate-1")
    assert read_asked(folder) == Asked((*whole, "prepare-2"), whole)
    RunRecord(folder).finished_with(["prepare-2", "evaluate-2"])
    assert read_asked(folder) == Asked(("prepare-2", "evaluate-2"), ("prepare-2", "evaluate-2"))


def test_no_name_is_lost_between_processes_that_share_a_record(root: Location) -> None:
    names = [f"b_tune-{number}" for number in range(12)]
    with ThreadPoolExecutor(max_workers=4) as threads:
        list(threads.map(lambda name: RunRecord(root / "sweep").asks_for(name), names))
    assert set(read_asked(root / "sweep").stages) == set(names)


def test_records_of_the_version_before_are_read_and_added_to(tmp_path: Path) -> None:
    storage.write_replacing(tmp_path / "stages.json", json.dumps({"stages": ["prepare-1"]}).encode())
    assert read_asked(tmp_path) == Asked(("prepare-1",))
    RunRecord(tmp_path).asks_for("a_tune-1")
    assert read_asked(tmp_path) == Asked(("prepare-1", "a_tune-1"))


def test_a_damaged_record_is_told_from_an_empty_one() -> None:
    assert decode_asked(b"{}") == Asked()
    for content in (b"", b"[1]", b'{"stages": 3}', b'{"stages": ["a"'):
        assert decode_asked(content) is None
