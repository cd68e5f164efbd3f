"""What the tables and plots of a report say of some results."""

import re

from behaviorlm_ray.report.content import ReportData, Results
from behaviorlm_ray.report.page import render_report
from behaviorlm_ray.report.results import shown_retention


def test_the_endpoint_in_expectation_stands_beside_its_bound_and_a_dash_where_nothing_counts() -> None:
    values = [{"value": 0.111, "low": None, "high": None}] * 2
    groups = {"anchor": {"accuracy": values[0]}, "tail": {"macro_recall_at_least_10": values[1]}}
    front = {"anchor_accuracy": [0.6, 0.5], "tail_macro_recall": [0.1, 0.2], "tau": [-0.5, 0]}
    data = {
        "title": "expected",
        "synthetic": True,
        "results": {
            "models": {"one": groups, "two": groups, "three": groups},
            "in_expectation": {
                "bound": {"anchor_accuracy": 0.777, "tail_macro_recall": 0.666},
                "models": {
                    "one": {"anchor_accuracy": 0.543, "tail_macro_recall": 0.321},
                    "two": {"anchor_accuracy": 0.234, "tail_macro_recall": None},
                },
            },
        },
        "fronts": {"one": front | {"area": 0.135, "expected_area": 0.246}},
        "truth_front": {"anchor_accuracy": [0.7], "tail_macro_recall": [0.6], "expected_area": 0.468},
    }
    page = render_report(ReportData.model_validate(data))
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
    ends = {words[0]: words[-2:] for words in rows if len(words) > 3}
    assert ends["one"] == ["0.543", "0.321"] and ends["two"] == ["0.234", "–"] and ends["three"] == ["–", "–"]
    assert ends["bound"] == ["0.777", "0.666"]
    assert ["one", "0.135", "0.246"] in rows and ["best", "possible", "0.468"] in rows


def test_a_log_without_conversations_has_no_table_of_knowledge_and_models_without_any_no_row() -> None:
    assert shown_retention({"untuned": {}, "ab_tuned": {}}) == {}
    found = shown_retention({"untuned": {}, "ab_tuned": {"talk": {"loss": 1.5}, "cloze": {"accuracy": 0.25}}})
    assert found == {"ab_tuned": {"talk loss": {"value": 1.5}, "cloze accuracy": {"value": 0.25}}}
    pages = [
        render_report(ReportData(title="t", results=Results.model_validate({"retention": of})))
        for of in (found, shown_retention({"untuned": {}}))
    ]
    assert ['id="retention"' in page for page in pages] == [True, False]


def test_the_best_value_is_marked_and_for_the_calibration_error_it_is_the_lowest() -> None:
    def of(value: float) -> dict[str, dict[str, float]]:
        return {"accuracy": {"value": value}, "expected_calibration_error": {"value": value}}

    page = render_report(
        ReportData(
            title="t",
            results=Results.model_validate({"models": {"x": {"all": of(0.25)}, "y": {"all": of(0.75)}}}),
        )
    )
    assert re.findall(r'<span class="best">([\d.]+)', page) == [
        "0.250",
        "0.750",
    ]  # x: calibration error; y: accuracy
