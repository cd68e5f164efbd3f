"""Missing and undefined parts do no harm; a report survives JSON."""

import re

import pytest

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.page import render_report
from tests.platform.report.random_reports import NAMES, PageText, random_report


@pytest.fixture(scope="module")
def small_report() -> ReportData:
    """Every part, but few plots, so that many variants are drawn quickly."""
    report = random_report(seed=6, behaviors=len(NAMES), steps=12)
    return report.model_copy(update={"loss_curves": dict(list(report.loss_curves.items())[:1])})


@pytest.fixture(scope="module")
def small_page(small_report: ReportData) -> str:
    return render_report(small_report)


@pytest.mark.parametrize("part", [None, *ReportData.model_fields])
def test_a_report_reads_with_any_one_part_alone(small_report: ReportData, part: str | None) -> None:
    whole = small_report.model_dump(mode="json")
    data = {"title": "Alone"} | ({part: whole[part]} if part else {})
    parsed = PageText(render_report(ReportData.model_validate(data)))
    assert ("Alone" if part != "title" else whole["title"]) in parsed.text
    assert "How to read this" in parsed.text


@pytest.mark.parametrize("part", [name for name in ReportData.model_fields if name != "title"])
def test_a_report_reads_with_any_one_part_missing(small_report: ReportData, part: str) -> None:
    data = {name: value for name, value in small_report.model_dump(mode="json").items() if name != part}
    assert "How to read this" in render_report(ReportData.model_validate(data))


def test_undefined_numbers_are_dashes_and_never_reach_the_page_as_nan(small_report: ReportData) -> None:
    nothing = {"value": None, "low": None, "high": None}
    broken = {"value": float("nan"), "low": float("nan"), "high": float("inf")}
    data = small_report.model_dump() | {
        "results": {
            "models": {
                "one": {"tail": {"accuracy": nothing}},
                "two": {"anchor": {"accuracy": broken}},
                "three": {},
            }
        },
        "loss_curves": {
            "a_tune": [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": None}],
            "b_tune": [],
        },
        "reliability": {
            "one": [{"low": 0, "high": 1, "samples": 0, "mean_confidence": None, "accuracy": None}]
        },
        "behaviors": {"one": [{"behavior": "walk"}], "two": []},
        "selection": {"behaviors": [{"behavior": "walk", "available": 0, "quota": 0}]},
        "comparisons": [{"first": "one", "second": "two", "group": "all", "metric": "mrr"}],
        "fronts": {"one": {"anchor_accuracy": [None], "tail_macro_recall": [0.1]}},
    }
    text = PageText(render_report(ReportData.model_validate(data))).text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert "–" in text


def test_the_data_of_a_report_survive_json(small_report: ReportData, small_page: str) -> None:
    again = ReportData.model_validate_json(small_report.model_dump_json())
    assert again == small_report
    assert render_report(again) == small_page
