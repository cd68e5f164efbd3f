"""Studies: what is refused before anything runs, which keys a seed changes, and what the tables say of records."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.comparison import fronts, tail_at_anchor
from behaviorlm_lab.study.conditions import make_files, study_files
from behaviorlm_lab.study.guards import guards
from behaviorlm_lab.study.intervals import estimate, mean
from behaviorlm_lab.study.provenance import provenance
from behaviorlm_lab.study.records import existing_records, read_records, write_record
from behaviorlm_lab.study.runs import check_records, plan_study, planned_runs, run_study, study_folder
from behaviorlm_lab.study.settings import REFERENCE, SEEDED, StudySettings, study_run
from behaviorlm_lab.study.tables import main as tables_main
from behaviorlm_lab.study.tables import study_tables

ROOT = Path(__file__).resolve().parents[4]


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


def made_record(
    condition: str, seed: int, anchors: dict[str, float], base: str = "shipped", shift: float = 0.0
) -> dict[str, Any]:
    def model(anchor: float) -> dict[str, Any]:
        drawn = {"value": anchor, "low": 0.0, "high": 1.0}
        expected = {"anchor_accuracy": anchor, "tail_macro_recall": 0.5 * anchor, "tail_accuracy": 0.1}
        return {"anchor_accuracy": drawn, "tail_macro_recall": drawn, "expected": expected}

    ends = [(0.2 + shift, 0.6), (0.6 + shift, 0.2)]
    expected = [{"anchor_accuracy": anchor, "tail_macro_recall": tail} for anchor, tail in ends]
    points = [{"tau": float(tau), "expected": point} for tau, point in enumerate(expected)]
    front = {"points": points, "area": 0.9, "expected_area": 0.2 + seed / 100}
    settings = {"condition.base": base, "b_tuning.max_steps": 70}
    return {
        "study": "made",
        "condition": condition,
        "seed": seed,
        "made": {"settings": settings, "base": f"the {base} one"},
        "optimizer_samples": {"one_stage": 6400, "ab_tuned": 6400},
        "scoring_samples": {"one_stage": 0, "ab_tuned": 8320},
        "ceiling": {"anchor": 0.5},
        "bound_of_tail_macro_recall": {"expected": 0.6},
        "models": {name: model(value) for name, value in anchors.items()},
        "tau": {"one_stage": 0.25, "ab_tuned": -0.5},
        "validation": {
            "one_stage": {"plain": 0.31, "adjusted": 0.35},
            "ab_tuned": {"plain": 0.4, "adjusted": 0.4},
        },
        "fronts": {"ab_tuned": front, "one_stage": {**front, "expected_area": 0.1}},
        "retention": {"one_stage": {"everyday": {"loss": 2.0 + seed}, "cloze": {"accuracy": 0.5}}},
        "difficulty": {},
    }


THREE = [
    {"one_stage": 0.30, "ab_tuned": 0.34, "ab_tuned+adjusted": 0.36},
    {"one_stage": 0.40, "ab_tuned": 0.47, "ab_tuned+adjusted": 0.46},
    {"one_stage": 0.35, "ab_tuned": 0.40, "ab_tuned+adjusted": 0.41},
]


def interval(values: list[float]) -> str:
    # Student's t for two degrees of freedom at .975 is 4.303
    half = 4.3027 * np.std(values, ddof=1) / np.sqrt(3)
    return f"[{np.mean(values) - half:+.3f}, {np.mean(values) + half:+.3f}]"


def test_differences_are_paired_by_seed_for_each_quantity_with_student_s_interval(tmp_path: Path) -> None:
    for seed, models in enumerate(THREE):
        write_record(tmp_path, made_record("main", seed, models))
    lines = study_tables(read_records(tmp_path), "one_stage")
    rows = [line for line in lines if line.startswith("| ab_tuned |")]
    of_values, of_differences, of_front, of_front_less, of_choices = rows
    anchor, tail = [0.04, 0.07, 0.05], [0.02, 0.035, 0.025]
    cells = [cell.strip() for cell in of_differences.strip("|").split("|")]
    assert cells[1] == f"+0.053 {interval(anchor)}"
    assert cells[2] == f"+0.027 {interval(tail)}"
    assert cells[3] == f"+0.040 {interval([0.03, 0.0525, 0.0375])}"
    assert cells[4] == f"+0.110 {interval([0.10, 0.11, 0.12])}"
    # the front goes from (.2, .6) to (.6, .2): at an anchor accuracy of .3, .4 and .35 its tail is .5, .4 and .45
    assert "| 0.450 [0.326, 0.574] |" in of_values
    assert of_front == (
        "| ab_tuned | 0.600 [0.600, 0.600] | 0.600 [0.600, 0.600] | 0.550 [0.550, 0.550] | 0.500 [0.500, 0.500] "
        "| 0.450 [0.450, 0.450] | 0.400 [0.400, 0.400] |"
    )
    assert of_front_less == "| ab_tuned |" + " +0.000 [+0.000, +0.000] |" * 6, "both have the same front here"
    assert of_choices == "| ab_tuned |  | 0.400 | 0.403 | 0.403 | 6,400 | 8,320 |"
    assert any(line.startswith("| ab_tuned+adjusted | -0.5, -0.5, -0.5 | 0.400 | 0.410 |") for line in lines)
    assert any("Means over seeds" in line and "one base model" in line for line in lines)
    assert not any("Primary contrast" in line for line in lines), "that has a reference of its own"
    assert "| one_stage | 3.000 | 0.500 |" in lines


def test_the_tail_at_an_anchor_accuracy_is_the_most_that_a_front_has_there() -> None:
    record = made_record("main", 0, THREE[0])
    assert tail_at_anchor(record, "ab_tuned", 0.3) == pytest.approx(0.5)
    assert tail_at_anchor(record, "ab_tuned+adjusted", 0.6) == pytest.approx(0.2)
    assert tail_at_anchor(record, "ab_tuned", 0.1) == pytest.approx(0.6), (
        "more anchors than asked for are no harm"
    )
    assert tail_at_anchor(record, "ab_tuned", 0.61) is None, "what weaker strengths would reach is not known"
    assert tail_at_anchor(record, "nothing", 0.3) is None
    record["fronts"]["ab_tuned"]["points"][0]["expected"] = None
    assert tail_at_anchor(record, "ab_tuned", 0.3) is None


def test_the_contrast_that_the_study_is_about_and_what_nobody_can_beat_stand_before_the_tables(
    tmp_path: Path,
) -> None:
    front = {"expected_anchor_accuracy": [0.5, 0.4, 0.0], "expected_tail_macro_recall": [0.1, 0.4, 0.6]}
    for seed, (plain, anchor) in enumerate(zip(THREE, (0.31, 0.43, 0.34), strict=True)):
        record = made_record("main", seed, {**plain, "one_stage+adjusted": anchor})
        write_record(tmp_path, record | {"ceiling_front": {**front, "expected_area": 0.25}})
    lines = study_tables(read_records(tmp_path), "one_stage+adjusted")
    contrast = [0.75 * 0.05, 0.75 * 0.03, 0.75 * 0.07]
    (found,) = (line for line in lines if "Primary contrast" in line)
    assert f"mean of both: {np.mean(contrast):+.3f} {interval(contrast)}." in found
    assert any("the mean of both is 0.400 at most, and the area of the front 0.250" in line for line in lines)
    assert any(line.startswith("The values of each seed") for line in study_tables([record], "one_stage"))
    other = study_tables([record | {"condition": "opaque"}], "one_stage+adjusted")
    assert not any("Primary contrast" in line for line in other), "it was named for the main condition"


def test_fronts_are_compared_at_an_anchor_accuracy_seed_by_seed() -> None:
    records = [made_record("main", seed, THREE[seed]) for seed in range(3)]
    for record, tail in zip(records, (0.1, 0.2, 0.4), strict=True):
        ends = [
            {"anchor_accuracy": 0.0, "tail_macro_recall": tail},
            {"anchor_accuracy": 0.3, "tail_macro_recall": tail},
        ]
        record["fronts"]["one_stage"]["points"] = [{"tau": 0.0, "expected": end} for end in ends]
    (row,) = (line for line in fronts(records, "one_stage+adjusted") if line.startswith("| ab_tuned |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    ahead = [0.5, 0.4, 0.2]  # at an anchor accuracy of .2 ab_tuned has .6 of the tail, at .3 it has .5
    assert cells[2] == f"{np.mean(ahead):+.3f} {interval(ahead)}"
    ahead = [0.4, 0.3, 0.1]
    assert cells[4] == f"{np.mean(ahead):+.3f} {interval(ahead)}" and cells[5] == "–"


def test_an_unknown_reference_and_a_folder_without_records_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "records", made_record("main", 0, THREE[0]))
    for arguments, message in (
        ([str(tmp_path / "records"), "one_stag"], "there is no model 'one_stag'; known: one_stage, ab_tuned"),
        ([str(tmp_path / "nowhere")], "nowhere"),
    ):
        with pytest.raises(SystemExit) as stopped:
            tables_main(arguments)
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert tables_main([str(tmp_path / "records"), "one_stage"]) == 0
    assert "| less one_stage |" in capsys.readouterr().out


def test_guards_take_their_gain_from_the_main_one_seed_by_seed(tmp_path: Path) -> None:
    for seed, (plain, anchor) in enumerate(zip(THREE, (0.31, 0.43, 0.34), strict=True)):
        models = {**plain, "one_stage+adjusted": anchor}
        write_record(tmp_path, made_record("main", seed, models))
        less = {name: value - 0.1 * (name == "ab_tuned") for name, value in models.items()}
        write_record(tmp_path, made_record("random_base", seed, less, base="random"))
        write_record(tmp_path, made_record("crossed", seed, models))
    alone = {**THREE[0], "ab_tuned": 0.35, "one_stage+adjusted": 0.31}
    write_record(tmp_path, made_record("random_base", 7, alone, base="random"))
    lines = guards(read_records(tmp_path))
    assert not any("crossed" in line for line in lines), "it has the log and the base of the main condition"
    of_main = next(line for line in lines if line.startswith("| main | ab_tuned |")).split(" | ")
    assert of_main[5].startswith("+0.027 [") and of_main[6].strip() == "", (
        "seeds 0 to 2, and nothing to compare with"
    )
    row = next(line for line in lines if line.startswith("| random_base | ab_tuned |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # of tail macro recall, half the anchor accuracy: .05 less than main under each of the three seeds in common
    assert cells[2] == "one_stage"
    assert cells[6] == "+0.050 [+0.050, +0.050]" and cells[8] == "+0.100 [+0.100, +0.100]"
    gains = [0.02 - 0.05, 0.035 - 0.05, 0.025 - 0.05, 0.025]
    assert cells[5].startswith(f"{np.mean(gains):+.3f} [") and cells[13] == "4 (3)"
    # of the mean of both, three quarters of the anchor accuracy; the fronts are the same under both
    assert cells[10] == "+0.075 [+0.075, +0.075]" and cells[12] == "+0.000 [+0.000, +0.000]"
    balancing = next(line for line in lines if line.startswith("| random_base | one_stage+adjusted |"))
    gains_of_adjustment = [0.005, 0.015, -0.005, 0.005]
    assert balancing.split(" | ")[5].startswith(f"{np.mean(gains_of_adjustment):+.3f} [")
    assert guards([made_record("main", 0, THREE[0]), made_record("crossed", 0, THREE[0])]) == []


def test_difficulty_tables_have_a_row_for_each_selection_and_each_measure() -> None:
    def group(samples: int, p: float | None) -> dict[str, Any]:
        return {"samples": samples, "mean_true_p": p}

    scored = {"anchor": group(3000, 0.25), "tail": group(1000, 0.1)}
    selected = {"anchor": group(900, 0.2), "tail": group(400, None)}
    correlation = {"surprise": {"all": 0.9, "tail": 0.5, "anchor": 0.25}, "learnable": {"tail": None}}
    records = [made_record("main", seed, THREE[0]) for seed in (0, 1)]
    for record in records:
        record["difficulty"] = {
            "selections": {"ab_tuned": {"scored": scored, "selected": selected}},
            "overlaps": {"tail": {"ab_tuned": {"ab_nll": 0.98}, "ab_nll": {"ab_tuned": 0.97}}},
            "measures": {
                "on": "ab_random",
                "learned": {"on others": 0.125},
                "nll": {group: {"before": 9.0, "after, on others": 2.5} for group in ("tail", "anchor")},
                "correlations": {"nll": correlation},
            },
        }
    lines = study_tables(records, "one_stage")
    assert "| ab_tuned | 900 | 0.200 | 3,000 | 0.250 | 400 | – | 1,000 | 0.100 |" in lines
    assert "| ab_nll | 0.97 |  |" in lines
    assert "| nll | 0.50 | 0.25 | – | – | – | – | – | – | – | – |" in lines
    assert any(
        "that ab_random scored" in line and "fell by 0.125 nats" in line and "it was 9.000" in line
        for line in lines
    )


def test_fewer_than_three_seeds_have_no_interval() -> None:
    assert estimate([0.0125], sign=True) == "+0.013"
    assert estimate([0.02, 0.04]) == "0.020, 0.040"
    assert estimate([0.02, None, 0.04, 0.03]) == "0.030 (3 of 4 seeds)"
    assert estimate([None, None]) == "–"
    assert mean([0.02, None, 0.04], digits=2) == "0.03 (2 of 3 seeds)"


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
        assert made == record["made"]["settings"], path.name


def test_the_tables_in_docs_are_those_of_the_records_in_docs() -> None:
    tables = study_tables(read_records(ROOT / "docs/study/world"), REFERENCE)
    written = (ROOT / "docs/study/world/tables.md").read_text().splitlines()
    assert [one for one, other in zip(tables, written, strict=False) if one != other] == []
    assert len(tables) == len(written)
