"""Which stages runs, searches and studies reach, and what is refused because it cannot be known."""

import gzip
import json
from pathlib import Path

from behaviorlm_ray import storage
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.storage import Location
from behaviorlm_ray.upkeep.reach import Reach, asked_for, reached
from behaviorlm_ray.upkeep.stage_states import stages_under
from tests.platform.upkeep.stored_stages import chain, finished_stage, folder_of

TASK = Task(number=0, trial=0, rung=0, parameters={"selection.balance": 0.3})


def reach_of(root: Location) -> Reach:
    return reached(root, stages_under(str(root)))


def names(outputs: list[StageOutput]) -> set[str]:
    return {folder_of(output) for output in outputs}


def test_what_the_last_stage_was_made_from_is_reached_all_the_way_and_nothing_else(root: Location) -> None:
    wanted, _ = chain(root, "wanted"), chain(root, "other")
    RunRecord(root / "demo").asks_for(folder_of(wanted[-1]))
    reach = reach_of(root)
    assert reach.stages == names(wanted) and not reach.unknown
    assert asked_for(root) == {folder_of(wanted[-1])}


def test_of_two_stages_that_made_the_same_only_the_one_that_a_run_names_is_reached(root: Location) -> None:
    """A selection may come out the same with and without a user; what was made with him has to go."""
    before, after = (finished_stage(root, "prepare", content) for content in ("with him", "without him"))
    old, new = (finished_stage(root, "select", "same", {"prepared": one.manifest}) for one in (before, after))
    last = finished_stage(root, "b_tune", "tuned", {"selection": new.manifest})
    RunRecord(root / "demo").asks_for(folder_of(last))
    assert reach_of(root).stages == names([before, after, old, new, last])  # which of them it was is not told
    for stage in (after, new, last):
        RunRecord(root / "demo").asks_for(folder_of(stage))
    assert reach_of(root).stages == names([after, new, last])


def test_a_run_of_a_version_without_records_is_known_by_its_results(tmp_path: Path) -> None:
    wanted = chain(tmp_path, "wanted")
    results = storage.read_bytes(wanted[-1].folder / "results.json")
    storage.write_replacing(tmp_path / "demo" / "results.json", results or b"")
    assert reach_of(tmp_path).stages == names(wanted)


def test_a_finished_run_whose_stages_cannot_be_known_is_named_with_what_to_do(tmp_path: Path) -> None:
    chain(tmp_path, "other")
    storage.write_replacing(tmp_path / "demo" / "results.json", b"of a stage that is gone")
    [told] = reach_of(tmp_path).unknown
    assert told.startswith("the run demo finished") and str(tmp_path / "demo" / "config.yaml") in told
    RunRecord(tmp_path / "demo").asks_for("prepare-0123456789abcdef")
    assert not reach_of(tmp_path).unknown


def test_a_search_reaches_the_stages_of_its_tasks_and_of_its_floor(root: Location) -> None:
    wanted, floor = chain(root, "wanted"), finished_stage(root, "validate_one_stage", "floor")
    chain(root, "other")
    ledger = Ledger(root / "sweep" / "tasks-0123")
    ledger.decide(TASK)
    ledger.record(Outcome(task=TASK, stages={"b_tune": folder_of(wanted[-1])}))
    summary = {"stages": {folder_of(floor): 1}}
    storage.write_replacing(root / "sweep" / "summary.json", json.dumps(summary).encode())
    reach = reach_of(root)
    assert reach.stages == names([*wanted, floor]) and not reach.unknown


def test_a_search_that_has_not_ended_is_known_by_its_record_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sweep" / "tasks-0123")
    storage.write_replacing(ledger.folder / "start.json", b"{}")  # with which an earlier version began
    assert "the search sweep has not ended" in reach_of(tmp_path).unknown[0]
    ledger.decide(TASK)
    assert "the search sweep has not ended" in reach_of(tmp_path).unknown[0]
    RunRecord(tmp_path / "sweep").asks_for("prepare-0123456789abcdef")
    assert not reach_of(tmp_path).unknown


def test_a_study_reaches_what_its_records_were_made_from(tmp_path: Path) -> None:
    wanted = [chain(tmp_path, "one"), chain(tmp_path, "two")]
    chain(tmp_path, "other")
    for seed, stages in enumerate(wanted):
        content = json.dumps({"fingerprint": stages[-1].manifest.fingerprint}).encode()
        packed = gzip.compress(content) if seed else content
        name = f"main-{seed}.json{'.gz' if seed else ''}"
        storage.write_replacing(tmp_path / "world" / "records" / name, packed)
    assert reach_of(tmp_path).stages == names(wanted[0]) | names(wanted[1])


def test_damage_to_what_names_stages_is_refused(tmp_path: Path) -> None:
    wanted = chain(tmp_path, "wanted")
    RunRecord(tmp_path / "demo").asks_for(folder_of(wanted[-1]))
    place = tmp_path / "stages" / folder_of(wanted[-1]) / "manifest.json"
    storage.write_replacing(place, b"{}")
    storage.write_replacing(tmp_path / "other" / "stages.json", b"{")
    storage.write_replacing(tmp_path / "sweep" / "tasks-0123" / "task-000000.json", b"{")
    told = reach_of(tmp_path).unknown
    for damaged in (
        place,
        tmp_path / "other" / "stages.json",
        tmp_path / "sweep" / "tasks-0123" / "task-000000.json",
    ):
        assert sum(line.startswith(f"{damaged} is damaged") for line in told) == 1
    assert len(told) == 3
