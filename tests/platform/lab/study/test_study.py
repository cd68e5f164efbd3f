"""A study: its settings and cells, what is refused, its records, and the records in docs."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.cells import Cell, cell_settings, planned_cells
from behaviorlm_lab.study.provenance import provenance
from behaviorlm_lab.study.records import existing_records, kind_of, read_records, write_record
from behaviorlm_lab.study.runs import plan_study, run_study
from behaviorlm_lab.study.settings import RATES, SEARCHED, SEEDED, StudySettings, study_run
from behaviorlm_lab.study.shuffled_log import shuffled
from behaviorlm_lab.study.tables import study_tables
from tests.platform.lab.study.made_records import made_record

ROOT = Path(__file__).resolve().parents[4]
KEPT = sorted(path.parent for path in (ROOT / "docs/study").glob("*/tables.md"))
"""Folders of records."""


def study(**values: Any) -> StudySettings:
    arms = {
        "at_once": {"tuning": "one_stage"},
        "two": {"tuning": "ab_tuned", "values": {"selection.total": 9}},
    }
    shots = {3: {"tail_samples": 3, "arms": {"two": {"selection.total": 7}}}, "all": {"tail_samples": None}}
    data = {"name": "tiny", "run": str(ROOT / "jobs/configs/demo.yaml"), "seeds": [3, 5], "k": [3]}
    return load_settings(StudySettings, None, (), data | {"arms": arms, "shots": shots} | values)


def test_a_seed_changes_every_seed_of_the_run_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    first, second = (study_run(study(), f"c-{seed}", "3", seed, {}).model_dump() for seed in (3, 5))
    for key in (*SEEDED, "name"):
        group, _, name = key.rpartition(".")
        one, other = (first[group], second[group]) if group else (first, second)
        assert one.pop(name) != other.pop(name)
    assert first == second


def test_every_arm_is_tried_with_every_rate_in_all_of_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = study_run(study(search=[1e-4, 1e-3]), "c", "3", 3, {})
    tried = ["at_once_rate_100", "at_once_rate_1000", "two_rate_100", "two_rate_1000"]
    assert run.evaluation.arms == ["untuned", *tried]
    assert run.few_shot.tail_samples == 3
    assert run.arms["two_rate_1000"].values == {"selection.total": 7, **dict.fromkeys(RATES, 1e-3)}
    plain = study_run(study(k=["all"]), "c", "all", 3, {})
    assert plain.arms["two"].values == {"selection.total": 9}
    assert plain.arms["at_once"].values == {} and plain.few_shot.tail_samples is None


def test_cells_are_planned_shots_by_shots_and_a_smaller_dose_has_a_base_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    settings = study(k=[3, "all"], knowledge=[1, 0.5])
    names = [cell.name for cell in planned_cells(settings)]
    assert names[:3] == ["k3-knowledge1-3", "k3-knowledge1-5", "k3-knowledge0.5-3"] and len(names) == 8
    whole, half = (cell_settings(settings, Cell("3", knowledge, 3)) for knowledge in (1.0, 0.5))
    assert whole.model.base.endswith("assets/base") and "knowledge-0.5" in half.model.base
    assert cell_settings(study(order="shuffled"), Cell("3", 1.0, 3)).evaluation.truth is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": [1, 1]}, "each seed once"),
        ({"k": [4]}, "k: there is no 4 among the shots 3, all"),
        ({"shots": {3: {"tail_samples": 3, "arms": {"three": {}}}}}, "there is no three among the arms"),
        ({"knowledge": [2]}, "shares are from 0 to 1"),
        ({"values": {"a_tuning.epoch": 1}}, "did you mean 'epochs'"),
        ({"arms": {"untuned": {"tuning": "untuned"}}, "shots": {3: {"tail_samples": 3}}}, "exist already"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=message):
        plan_study(study(root=str(tmp_path), **values))
    assert not list(tmp_path.iterdir())


def test_shuffling_keeps_what_each_event_is_and_when_in_the_week_it_was() -> None:
    events = [
        {"time": f"2025-01-{day:02d}T{hour:02d}:10:00Z", "behavior": f"b{day}", "place": "home"}
        for day, hour in ((6, 7), (7, 8), (14, 8), (20, 23))
    ]
    found = shuffled(events, np.random.default_rng(0))

    def seen(of: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
        times = [datetime.fromisoformat(one["time"]) for one in of]
        return Counter((f"{at:%a %H:%M:%S}", one["behavior"]) for at, one in zip(times, of, strict=True))

    assert seen(found) == seen(events)
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
    assert [one["behavior"] for one in found] != [one["behavior"] for one in events]


def test_a_record_is_read_as_it_was_made_and_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no records"):
        read_records(tmp_path)
    cells = [Cell("all", 1.0, 2), Cell("10", 1.0, 3), Cell("3", 0.5, 1), Cell("3", 1.0, 1)]
    for cell in cells:
        write_record(tmp_path, cell, made_record(cell, {"recommended": 1 / 3}))
    records = read_records(tmp_path)
    assert [kind_of(record) for record in records] == [
        "k3-knowledge1",
        "k3-knowledge0.5",
        "k10-knowledge1",
        "kall-knowledge1",
    ]
    assert records[0]["roles"]["recommended"]["both"] == 0.33333
    assert list(records[0]) == list(made_record(cells[0]))


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[1]"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: Callable[[str], str]) -> None:
    cell = Cell("3", 1.0, 1)
    path = write_record(tmp_path, cell, made_record(cell))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=rf"{path.name} is no record of a study"):
        read_records(tmp_path)


def test_what_was_made_otherwise_is_refused_by_record_and_key(tmp_path: Path) -> None:
    cells = [Cell("3", 1.0, 1), Cell("3", 1.0, 2), Cell("10", 1.0, 1)]
    records = [made_record(cell) for cell in cells]
    records[2]["made"] |= {
        "settings": {"b_tuning.max_steps": 90}
    }  # other shots may have settings of their own
    for cell, record in zip(cells, records, strict=True):
        write_record(tmp_path, cell, record)
    assert len(read_records(tmp_path)) == 3
    changed = {**records[2], "made": {**records[2]["made"], "study": {"users": 100}}}
    write_record(tmp_path, cells[2], changed)
    with pytest.raises(ConfigError, match=r"study\.users is 600, but 100 in .*k10-"):
        read_records(tmp_path)
    write_record(tmp_path, cells[2], records[2])
    write_record(tmp_path, cells[1], {**records[1], "made": {**records[1]["made"], "base": "another"}})
    with pytest.raises(ConfigError, match=r"knowledge1-2\.json: base is 'another', but 'the shipped one'"):
        read_records(tmp_path)


def test_a_study_whose_settings_changed_does_not_go_on_with_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    settings, cell = study(root=str(tmp_path)), Cell("3", 1.0, 3)
    made = provenance(cell_settings(settings, cell), settings, "abc")
    write_record(tmp_path / "tiny" / "records", cell, {**made_record(cell), "made": made})
    assert "  k3-knowledge1-3: has a record; untuned, at_once, two" in plan_study(settings)
    changed = settings.model_copy(update={"values": {"b_tuning.weight_decay": 0.5}})
    for refused in (plan_study, run_study):
        with pytest.raises(
            ConfigError, match=r"settings\.b_tuning\.weight_decay is 0\.0, but 0\.5 in this study"
        ):
            refused(changed)


def test_the_records_in_docs_were_made_with_the_keys_that_the_study_has_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the study builds on the demo's configuration: what it does not fix itself would change with the demo
    monkeypatch.chdir(ROOT)
    assert KEPT
    for record in (record for folder in KEPT for record in existing_records(folder).values()):
        is_search = any(SEARCHED in name for name in record["models"])
        path = ROOT / f"jobs/configs/study/{record['study']}.yaml"
        settings = load_settings(StudySettings, path, ("search=[1.0e-4, 5.0e-4]",) if is_search else ())
        cell = Cell(record["k"], record["knowledge"], record["seed"])
        made = json.loads(json.dumps(provenance(cell_settings(settings, cell), settings)["settings"]))
        recorded = record["made"]["settings"]
        assert {key: made.get(key) for key in recorded} == recorded, cell.name


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_tables_in_docs_are_those_of_the_records_in_docs(folder: Path) -> None:
    assert study_tables(read_records(folder)) == (folder / "tables.md").read_text().splitlines()
