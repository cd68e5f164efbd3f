"""Studies: what is refused before anything runs, which keys a seed changes, and what the tables say of records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_ray.study.provenance import flattened, provenance
from behaviorlm_ray.study.records import read_records, write_record
from behaviorlm_ray.study.runs import check_records, plan_study, planned_runs, run_study, study_folder
from behaviorlm_ray.study.settings import SEEDED, StudySettings, study_run
from behaviorlm_ray.study.tables import signed, study_tables

ROOT = Path(__file__).resolve().parents[2]


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
        ({"examine_conditions": ["nowhere"]}, "there is no nowhere"),
        ({"only": ["nowhere"]}, "only: there is no nowhere"),
        ({"examine": ["ab_nowhere"]}, "there is no arm ab_nowhere"),
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


def made_record(condition: str, seed: int, anchors: dict[str, float]) -> dict[str, Any]:
    def model(anchor: float) -> dict[str, Any]:
        drawn = {"value": anchor, "low": 0.0, "high": 1.0}
        expected = {"anchor_accuracy": anchor, "tail_macro_recall": 0.5 * anchor, "tail_accuracy": 0.1}
        return {"anchor_accuracy": drawn, "tail_macro_recall": drawn, "expected": expected}

    return {
        "study": "made",
        "condition": condition,
        "seed": seed,
        "made": {
            "settings": {"condition": {"base": "shipped"}, "b_tuning": {"max_steps": 70}},
            "base": "abc",
        },
        "optimizer_samples": {"one_stage": 6400, "ab_tuned": 6400},
        "ceiling": {"anchor": 0.5},
        "bound_of_tail_macro_recall": {"expected": 0.6},
        "models": {name: model(value) for name, value in anchors.items()},
        "fronts": {"ab_tuned": 0.2},
        "retention": {"one_stage": {"everyday": {"loss": 2.0 + seed}, "cloze": {"accuracy": 0.5}}},
        "difficulty": {},
    }


def test_differences_are_paired_by_seed_with_student_s_interval(tmp_path: Path) -> None:
    values = [{"one_stage": 0.30, "ab_tuned": 0.34}, {"one_stage": 0.40, "ab_tuned": 0.47}]
    for seed, models in enumerate(values):
        write_record(tmp_path, made_record("main", seed, models))
    write_record(tmp_path, made_record("random_base", 0, values[0]))
    lines = study_tables(read_records(tmp_path), "one_stage")
    row = next(line for line in lines if line.startswith("| ab_tuned"))
    # differences of the mean of both: .03 and .0525; t for one degree of freedom at .975 is 12.706
    half = 12.7062 * np.std([0.03, 0.0525], ddof=1) / np.sqrt(2)
    assert f"+0.041 [{0.04125 - half:+.3f}, {0.04125 + half:+.3f}]" in row
    assert "| 0.405 | 0.203 | 0.304 |" in row and row.endswith("| 0.200 | 6,400 |")
    assert "| one_stage | 2.500 | 0.500 |" in lines
    assert "| random_base | ab_tuned | 0.340 | 0.170 | +0.020 | 1 |" in lines


def test_one_seed_has_no_interval() -> None:
    assert signed([0.0125]) == "+0.013"


def test_records_of_two_studies_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no records"):
        read_records(tmp_path)
    write_record(tmp_path, made_record("main", 0, {"one_stage": 0.3}))
    other = made_record("main", 1, {"one_stage": 0.3}) | {"study": "another"}
    (tmp_path / "main-1.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="mixes records of another, made"):
        read_records(tmp_path)


def test_what_was_made_otherwise_is_refused_by_record_and_key(tmp_path: Path) -> None:
    first, second, guard = (
        made_record(condition, seed, {"one_stage": 0.3})
        for condition, seed in (("main", 0), ("main", 1), ("random_base", 0))
    )
    guard["made"] = {**guard["made"], "base": "another"}  # a condition may have a base of its own
    for record in (first, second, guard):
        write_record(tmp_path, record)
    assert len(read_records(tmp_path)) == 3
    changed = {**guard, "made": flattened(guard["made"]) | {"settings.b_tuning.max_steps": 90}}
    write_record(tmp_path, changed)
    with pytest.raises(
        ConfigError, match=r"random_base-0\.json: settings\.b_tuning\.max_steps is 90, but 70 in "
    ):
        read_records(tmp_path)
    write_record(tmp_path, guard)
    write_record(tmp_path, {**second, "made": {**second["made"], "base": "another"}})
    with pytest.raises(ConfigError, match=r"main-1\.json: base is 'another', but 'abc' in .*main-0\.json"):
        read_records(tmp_path)
    write_record(tmp_path, {key: value for key, value in second.items() if key != "made"})
    with pytest.raises(ConfigError, match=r"main-1\.json does not say with which settings"):
        read_records(tmp_path)


def test_a_study_whose_settings_changed_does_not_go_on_with_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    settings = study(root=str(tmp_path), conditions={"main": {}, "random_base": {"base": "random"}})
    made = provenance(study_run(settings, "main", 3, {}), settings, "main", "abc")
    write_record(study_folder(settings) / "records", {**made_record("main", 3, {}), "made": made})
    assert any(line.startswith("  main, seed 3: has a record") for line in plan_study(settings))
    check_records(settings, {"main": "abc", "random_base": "another"})
    with pytest.raises(ConfigError, match=r"main-3\.json: base is 'abc', but 'other' in this study's main"):
        check_records(settings, {"main": "other"})
    for values, key in (
        ({"values": {"b_tuning.max_steps": 7}}, r"settings\.b_tuning\.max_steps is None, but 7"),
        ({"users": 301}, r"settings\.study\.users is 300, but 301"),
    ):
        changed = settings.model_copy(update=values)
        for refused in (plan_study, run_study):
            with pytest.raises(ConfigError, match=rf"main-3\.json: {key} in this study's"):
                refused(changed)
