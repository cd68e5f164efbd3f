"""The report: every number is on it, log text is inert, nothing is fetched, and it fits into five megabytes."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.page import render_report
from tests.platform.report.random_reports import HOSTILE, NAMES, PageText, random_report

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
TURNED = "\u202e"


@pytest.fixture(scope="module")
def report() -> ReportData:
    return random_report(seed=3)


@pytest.fixture(scope="module")
def page(report: ReportData) -> str:
    return render_report(report)


def without_script(page: str) -> str:
    return SCRIPT.sub("", page)


def specifications(page: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" class="spec">(.*?)</script>', page)
    return [json.loads(text) for text in found]


def test_every_number_of_the_results_is_on_the_page(report: ReportData, page: str) -> None:
    text = PageText(page).text
    values = set(re.findall(r"\d\.\d{3}", text))
    intervals = set(re.findall(r"−?\d\.\d{3} – −?\d\.\d{3}", text))
    for groups in report.results.models.values():
        for metrics in groups.values():
            for of in metrics.values():
                assert f"{of.value:.3f}" in values
                assert f"{of.low:.3f} – {of.high:.3f}".replace("-", "−") in intervals
    for number in (
        "123,456",
        "789",
        "98,765",
        "6,543",
        "23.4 %",
        "0.712",
        "0.803",
        "0.551",
        "2.345",
        "2,987",
    ):
        assert number in text
    assert "2024-01-01 07:18 to 2024-01-04 08:26 UTC (3 days)" in text
    for front in report.fronts.values():
        assert f"{front.area:.3f}" in text
    for comparison in report.comparisons:
        assert f"{comparison.difference:+.3f}".replace("-", "−") in text
    for stage in report.stages:
        assert stage.fingerprint[:12] in text and f"{stage.rows:,}" in text
        assert stage.tokens is None or f"{stage.tokens:,}" in text


def test_every_number_of_the_breakdowns_is_on_the_page(report: ReportData, page: str) -> None:
    text, found = PageText(page).text, report.breakdowns
    assert found is not None
    for rows in found.slices.values():
        for row in rows:
            assert f"{row.label} {row.samples:,} " in text
            for model in ("ab_tuned+adjusted", "markov_order_3", "most_frequent"):
                assert f"{100 * (row.accuracy[model] or 0):.1f} %" in text
    assert "for 111 , as often for 33 , less often for 56 of them" in text
    for part in found.users["ab_tuned+adjusted"].parts:
        assert f"{100 * part.accuracy:.1f} %" in text
    for losses in found.validation_loss.values():
        assert f"{losses.all:.3f} {losses.anchor:.3f} {losses.tail:.3f}" in text


def test_every_behavior_is_listed_with_its_counts_and_metrics_and_those_of_each_choice_are_embedded(
    report: ReportData, page: str
) -> None:
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr data.*?</tr>", page, re.DOTALL)]
    rows = report.behaviors["ab_tuned+adjusted"]
    assert len(cells) == len(rows)
    for row in rows:
        shown = [f"{row.training_targets:,}", f"{row.targets:,}"]
        shown += ["–" if value is None else f"{value:.3f}" for value in (row.recall, row.precision)]
        assert any(words[at : at + 4] == shown for words in cells for at in range(len(words)))
    [text] = re.findall(r'id="behaviors-data">(.*?)</script>', page)
    embedded = json.loads(text)
    options = re.findall(r'<option value="(\d+)">(.*?)</option>', page)
    for number, model in options:
        found = {
            (
                round(row.recall, 4) if row.recall is not None else None,
                row.precision and round(row.precision, 4),
            )
            for row in report.behaviors[model]
        }
        assert {tuple(row[:2]) for row in embedded["models"][int(number)]} == found
    assert "Google Maps" in embedded["names"]


def test_text_from_the_log_is_inert_in_tables_in_plots_and_in_what_the_script_reads() -> None:
    page = render_report(
        random_report(seed=4, behaviors=len(NAMES) + 5)
    )  # few enough to be named in the plot
    rest = without_script(page)
    parsed = PageText(rest)
    assert not {tag for tag, _ in parsed.tags} & {"img", "b-", "iframe", "object", "embed", "link"}
    assert {attributes.get("type") for tag, attributes in parsed.tags if tag == "script"} == {
        "application/json"
    }
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in parsed.text and "&lt;script&gt;" in page and "\\u003cscript" in rest
    assert r"line\nbreak\x00\x1b[31m" in parsed.text and r"turned \u202e round" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", rest) and TURNED not in rest
    assert r"\u202e" not in rest.replace(r"\\u202e", "").replace(r" \u202e ", "")  # in JSON as text, too
    for specification in specifications(page):  # names are values, never keys, fields or expressions
        keys = json.dumps({key: value for key, value in specification.items() if key != "data"})
        assert "alert" not in re.sub(r'"values": \[.*?\]', "", keys)


def test_the_page_may_run_its_own_script_and_refers_to_nothing_outside_itself(page: str) -> None:
    [script] = SCRIPT.findall(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = PageText(page).tags[3][1]["content"]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    rest = without_script(page)
    assert "http:" not in rest and "https:" not in rest and "@import" not in rest
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", rest))
    for tag, attributes in PageText(rest).tags:
        assert "src" not in attributes and "srcset" not in attributes
        href = attributes.get("href", attributes.get("xlink:href"))
        assert href is None or href.startswith("#"), (tag, href)


def test_every_reference_within_the_page_has_exactly_one_target(page: str) -> None:
    tags = PageText(without_script(page)).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {
        str(attributes[key]).removeprefix("#")
        for key in ("href", "aria-labelledby", "data-table")
        for _, attributes in tags
        if key in attributes
    }
    references |= set(re.findall(r"url\(#([^)]+)\)", without_script(page)))
    assert references <= set(ids) and len(references) > 10


def test_every_chart_is_a_picture_without_the_script_and_says_what_it_shows(page: str) -> None:
    figures = re.findall(r'<figure class="chart"[^>]*>(.*?)</figure>', page, re.DOTALL)
    assert len(figures) == len(specifications(page)) >= 14
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{20,}"><svg viewBox', figure)
        assert len(re.findall(r"<(?:path|line|text) ", figure)) > 5


def test_thousands_of_behaviors_and_steps_still_make_a_page_of_less_than_five_megabytes() -> None:
    page = render_report(random_report(seed=5, behaviors=3_000, steps=20_000))
    assert len(page.encode()) < 5e6
    assert "2,000 rarer behaviors are left out" in page


def test_names_of_predictors_break_after_signs_only(page: str) -> None:
    assert "markov_<wbr>order_<wbr>3" in page
    assert "ab_<wbr>tuned<wbr>+adjusted" in page
