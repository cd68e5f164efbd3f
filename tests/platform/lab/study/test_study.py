"""A study: its settings, what is refused, its files and records, and the records in docs."""

import gzip
import json
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.conditions import make_files, study_files
from behaviorlm_lab.study.provenance import provenance
from behaviorlm_lab.study.records import existing_records, read_records, write_record
from behaviorlm_lab.study.runs import check_records, plan_study, planned_runs, run_study, study_folder
from behaviorlm_lab.study.settings import REFERENCE, SEEDED, StudySettings, study_run
from behaviorlm_lab.study.tables import study_tables
from behaviorlm_ray.pipeline.settings import RunSettings
from tests.platform.lab.study.made_records import made_record

ROOT = Path(__file__).resolve().parents[4]
READ_ALIKE = {"events.delimiter": "auto"}
"""Defaults that changed since, by which the world's log is read as before."""


def study(**values: Any) -> StudySettings:
    data = {"name": "tiny", "run": str(ROOT / "jobs/configs/demo.yaml"), "seeds": [3, 5]} | values
    return load_settings(StudySettings, None, (), data)


def test_a_seed_changes_the_log_and_every_seed_of_the_run_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    first, second = (study_run(study(), "main", seed, {}).model_dump() for seed in (3, 5))
    for key in (*SEEDED, "name"):
        group, _, name = key.rpartition(".")
        one, other = (first[group], second[group]) if group else (first, second)
        assert one.pop(name) != other.pop(name)
    assert first == second


def test_conditions_without_seeds_or_arms_of_their_own_have_the_study_s() -> None:
    few = {"seeds": [9], "arms": ["untuned"], "base": "random"}
    settings = study(conditions={"main": {}, "random_base": few})
    assert planned_runs(settings) == [("main", 3), ("main", 5), ("random_base", 9)]
    assert planned_runs(settings.model_copy(update={"only": ["random_base"]})) == [("random_base", 9)]
    assert study_run(settings, "random_base", 9, {}).evaluation.arms == ["untuned"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": [1, 1]}, "each seed once"),
        ({"conditions": {"other": {"knowledge": 0.5}}, "examine_conditions": []}, "set base to 'recipe'"),
        ({"conditions": {"other": {"size": "small"}}, "examine_conditions": []}, "for small set base to"),
        ({"examine_conditions": ["nowhere"]}, "there is no nowhere"),
        ({"only": ["nowhere"]}, "only: there is no nowhere"),
        ({"examine": "ab_nowhere"}, "there is no arm ab_nowhere"),
        ({"examine": "ab_tuned"}, "examine: ab_tuned must have B-Tuning on a selection at random"),
        ({"values": {"a_tuning.epoch": 1}}, "did you mean 'epochs'"),
        ({"conditions": {"main": {"arms": ["nothing"]}}}, "there is no nothing"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=message):
        plan_study(study(root=str(tmp_path), **values))
    assert not list(tmp_path.iterdir())


def test_the_shipped_studies_are_valid_and_planned_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    paths = sorted((ROOT / "jobs/configs/study").glob("*.yaml"))
    assert paths
    for path in paths:
        settings = load_settings(StudySettings, path, (f"root={tmp_path}",))
        lines = plan_study(settings)
        for condition, seed in planned_runs(settings):
            assert any(line.startswith(f"  {condition}, seed {seed}: to run; ") for line in lines), path
        assert not (tmp_path / settings.name).exists()


def test_records_of_two_studies_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no records"):
        read_records(tmp_path)
    write_record(tmp_path, made_record("main", 0, {"one_stage": 0.3}))
    other = made_record("main", 1, {"one_stage": 0.3}) | {"study": "another"}
    (tmp_path / "main-1.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="mixes records of another, made"):
        read_records(tmp_path)


def test_a_record_is_read_as_it_was_made_with_what_was_measured_to_six_digits(tmp_path: Path) -> None:
    record = made_record("main", 0, {"one_stage": 1 / 3})
    record["made"]["settings"]["b_tuning.learning_rate"] = 1.23456789e-7
    path = write_record(tmp_path, record)
    (read,) = read_records(tmp_path)
    assert read["models"]["one_stage"]["expected"]["anchor_accuracy"] == 0.333333
    assert read["made"] == record["made"] and list(read) == list(record)
    assert len(path.read_text().splitlines()) == len(record) + 2
    packed = path.with_name("main-0.json.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"main-0\.json and .*main-0\.json\.gz are both of main, seed 0"):
        read_records(tmp_path)
    path.unlink()
    assert read_records(tmp_path) == [read]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"[1]"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], packed: bool) -> None:
    path = write_record(tmp_path, made_record("main", 0, {"one_stage": 0.3}))
    content = damage(path.read_bytes())
    path.write_bytes(content)
    if packed:
        path.unlink()
        path = tmp_path / "main-0.json.gz"
        path.write_bytes(damage(gzip.compress(content)))
    with pytest.raises(ConfigError, match=rf"{path.name} is no record of a study"):
        read_records(tmp_path)


def test_a_base_of_another_size_is_made_as_its_condition_says(tmp_path: Path) -> None:
    conditions = {"main": {}, "small": {"base": "random", "size": "small"}}
    settings = study(conditions=conditions, users=20, conversations=10)
    condition = settings.conditions["small"]
    make_files(settings, tmp_path, condition, 3)
    base = Path(study_files(settings, tmp_path, condition, 3)["model.base"])
    assert json.loads((base / "pretraining.json").read_text())["size"] == "small"
    of_base_size = study_files(settings, tmp_path, condition.model_copy(update={"size": "base"}), 3)
    assert of_base_size["model.base"] != str(base)


def test_what_was_made_otherwise_is_refused_by_record_and_key(tmp_path: Path) -> None:
    first, second, guard = (
        made_record(condition, seed, {"one_stage": 0.3})
        for condition, seed in (("main", 0), ("main", 1), ("random_base", 0))
    )
    guard["made"] = {**guard["made"], "base": "another"}  # a condition may have a base of its own
    for record in (first, second, guard):
        write_record(tmp_path, record)
    assert len(read_records(tmp_path)) == 3
    changed = {**guard, "made": {**guard["made"], "settings": {"b_tuning.max_steps": 90}}}
    write_record(tmp_path, changed)
    with pytest.raises(
        ConfigError, match=r"random_base-0\.json: settings\.b_tuning\.max_steps is 90, but 70 in "
    ):
        read_records(tmp_path)
    write_record(tmp_path, guard)
    write_record(tmp_path, {**second, "made": {**second["made"], "base": "another"}})
    with pytest.raises(
        ConfigError, match=r"main-1\.json: base is 'another', but 'the shipped one' in .*main-0\.json"
    ):
        read_records(tmp_path)
    write_record(tmp_path, {key: value for key, value in second.items() if key != "made"})
    with pytest.raises(ConfigError, match=r"main-1\.json does not say with which settings"):
        read_records(tmp_path)


def test_a_condition_may_change_keys_of_the_run_and_only_those_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    longer = {"values": {"b_tuning.max_steps": 140, "selection": {"total": 0.3, "balance": 0.3}}}
    settings = study(conditions={"main": {}, "longer": longer}, values={"b_tuning.max_steps": 70})
    made = {}
    for condition in ("main", "longer"):
        run = study_run(settings, condition, 3, {})
        made[condition] = provenance(run, settings, condition)
        write_record(tmp_path, made_record(condition, 0, {"one_stage": 0.3}) | {"made": made[condition]})
    assert made["longer"]["settings"]["b_tuning.max_steps"] == 140
    assert len(read_records(tmp_path)) == 2
    other = dict(made["longer"]["settings"]) | {"a_tuning.epochs": 9.0}
    changed = made_record("longer", 0, {}) | {"made": {**made["longer"], "settings": other}}
    write_record(tmp_path, changed)
    with pytest.raises(ConfigError, match=r"settings\.a_tuning\.epochs is .*"):
        read_records(tmp_path)


def test_a_study_whose_settings_changed_does_not_go_on_with_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    settings = study(root=str(tmp_path), conditions={"main": {}, "random_base": {"base": "random"}})
    made = provenance(study_run(settings, "main", 3, {}), settings, "main", "abc")
    write_record(study_folder(settings) / "records", {**made_record("main", 3, {}), "made": made})
    assert any(line.startswith("  main, seed 3: has a record") for line in plan_study(settings))
    (record,) = (study_folder(settings) / "records").iterdir()
    packed = record.with_name(f"{record.name}.gz")
    packed.write_bytes(gzip.compress(record.read_bytes()))
    record.unlink()
    assert any(line.startswith("  main, seed 3: has a record") for line in plan_study(settings)), "packed"
    record.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    check_records(settings, {"main": "abc", "random_base": "another"})
    with pytest.raises(ConfigError, match=r"main-3\.json: base is 'abc', but 'other' in this study's main"):
        check_records(settings, {"main": "other"})
    for values, key in (
        ({"values": {"b_tuning.weight_decay": 0.5}}, r"settings\.b_tuning\.weight_decay is 0\.0, but 0\.5"),
        ({"users": 301}, r"settings\.study\.users is 300, but 301"),
    ):
        changed = settings.model_copy(update=values)
        for refused in (plan_study, run_study):
            with pytest.raises(ConfigError, match=rf"main-3\.json: {key} in this study's"):
                refused(changed)


@pytest.mark.parametrize(
    ("place", "of", "told"),
    [
        ("stages", "predict", "the version of the stage predict"),
        ("packages", "numpy", "the version of numpy"),
    ],
)
def test_a_study_begun_with_other_code_is_refused_by_what_has_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, of: str, told: str
) -> None:
    monkeypatch.chdir(ROOT)
    settings = study(root=str(tmp_path), conditions={"main": {}})
    made = provenance(study_run(settings, "main", 3, {}), settings, "main", "abc")
    earlier = made | {place: made[place] | {of: "0"}}
    write_record(study_folder(settings) / "records", {**made_record("main", 3, {}), "made": earlier})
    words = (
        rf"main-3\.json: {told} is '0', but .* in this study's main; .*: go on with what began it, or remove"
    )
    for refused in (plan_study, run_study):
        with pytest.raises(ConfigError, match=words):
            refused(settings)


def test_the_records_in_docs_were_made_with_the_keys_that_the_study_has_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the study builds on the demo's configuration: what it does not fix itself would change with the demo
    monkeypatch.chdir(ROOT)
    settings = load_settings(StudySettings, ROOT / "jobs/configs/study/world.yaml", ())
    records = existing_records(ROOT / "docs/study/world")
    made_runs = [(record["condition"], record["seed"]) for record in records.values()]
    assert sorted(made_runs) == sorted(planned_runs(settings)), "all of them, and none besides"
    for path, record in records.items():
        run = study_run(settings, record["condition"], record["seed"], {})
        made = json.loads(json.dumps(provenance(run, settings, record["condition"])["settings"]))
        recorded = record["made"]["settings"] | READ_ALIKE
        assert {key: made[key] for key in recorded} == recorded, path.name
        data = run.model_dump(mode="json")
        for key in made.keys() - recorded.keys():
            *groups, name = key.split(".")
            del reduce(getitem, groups, data)[name]
        assert RunSettings.model_validate(data) == run, "keys that came later are at their defaults"


def test_the_tables_in_docs_are_those_of_the_records_in_docs() -> None:
    tables = study_tables(read_records(ROOT / "docs/study/world"), REFERENCE)
    written = (ROOT / "docs/study/world/tables.md").read_text().splitlines()
    assert [one for one, other in zip(tables, written, strict=False) if one != other] == []
    assert len(tables) == len(written)
