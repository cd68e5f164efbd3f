"""The tables of a study: differences paired by seed, fronts, guards, difficulty."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm_lab.study.comparison import fronts, tail_at_anchor
from behaviorlm_lab.study.guards import guards
from behaviorlm_lab.study.intervals import estimate, mean
from behaviorlm_lab.study.records import read_records, write_record
from behaviorlm_lab.study.tables import main as tables_main
from behaviorlm_lab.study.tables import study_tables
from tests.platform.lab.study.made_records import made_record

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
