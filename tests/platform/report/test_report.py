"""The report: every number is on it, log text is inert, nothing is fetched."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.page import render_report
from tests.platform.report.random_reports import HOSTILE, NAMES, PageText, random_report


@pytest.fixture(scope="module")
def report() -> ReportData:
    return random_report(seed=3)


@pytest.fixture(scope="module")
def page(report: ReportData) -> str:
    return render_report(report)


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
    for front in report.fronts.values():
        assert f"{front.area:.3f}" in text
    for comparison in report.comparisons:
        assert f"{comparison.difference:+.3f}".replace("-", "−") in text
    for stage in report.stages:
        assert stage.fingerprint[:12] in text and f"{stage.rows:,}" in text


def test_every_behavior_is_listed_for_every_model_with_its_counts_and_metrics(
    report: ReportData, page: str
) -> None:
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    found = {tuple(words[-4:]) for words in cells}
    for rows in report.behaviors.values():
        for row in rows:
            shown = [f"{row.training_targets:,}", f"{row.targets:,}"]
            shown += ["–" if value is None else f"{value:.3f}" for value in (row.recall, row.precision)]
            assert tuple(shown) in found
    assert page.count("unseen in training</i>") == len(report.behaviors)


def test_text_from_the_log_is_inert_in_tables_and_in_plots() -> None:
    page = render_report(
        random_report(seed=4, behaviors=len(NAMES) + 5)
    )  # few enough to be named in the plot
    parsed = PageText(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "b-", "iframe", "object", "embed", "link"}
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in parsed.text and "&lt;script&gt;" in page
    assert r"line\nbreak\x00\x1b[31m" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    assert "http:" not in page and "https:" not in page and "@import" not in page
    for tag, attributes in PageText(page).tags:
        assert "src" not in attributes and "srcset" not in attributes
        href = attributes.get("href", attributes.get("xlink:href"))
        assert href is None or href.startswith("#"), (tag, href)
    assert re.findall(r"url\(([^)]*)\)", page) and all(
        url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", page)
    )
    assert "default-src 'none'" in page


def test_every_reference_within_the_page_has_exactly_one_target(page: str) -> None:
    tags = PageText(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {href.removeprefix("#") for _, attributes in tags if (href := attributes.get("href"))}
    references |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set(ids)


def test_thousands_of_behaviors_still_make_a_page_that_opens() -> None:
    page = render_report(random_report(seed=5, behaviors=3_000, steps=1_000))
    assert len(page) < 12e6
    assert "2,000 rarer behaviors are left out" in page


def test_a_browser_without_network_shows_the_page(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium on this machine: the page was written but not opened")
        return
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    flags += ["--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [browser, *flags, "--dump-dom", path.as_uri()], capture_output=True, timeout=120, check=True
    )
    parsed = PageText(shown.stdout.decode("utf-8"))
    assert "How to read this" in parsed.text and HOSTILE in parsed.text
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert (
        sum(tag == "svg" for tag, _ in parsed.tags)
        == sum(tag == "svg" for tag, _ in PageText(path.read_text()).tags)
        > 5
    )
