"""The page in Chromium: charts are drawn without eval or network, tables sort and filter, hostile names do nothing."""

from collections.abc import Iterator

import pytest

from behaviorlm_ray.report.page import render_report
from tests.behaviorlm.service.browser import Page, browser_page, found_browser
from tests.platform.report.random_reports import NAMES, random_report


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, opened once for all tests, with every chart looked at."""
    browser = found_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_text(
        render_report(random_report(seed=3, behaviors=len(NAMES) + 9, steps=80)), encoding="utf-8"
    )
    with browser_page(browser, folder / "profile") as page:
        page.size(1300, 900)
        page.call("Page.navigate", url=path.as_uri())
        page.until("document.readyState === 'complete' && window.draw")
        page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        page.run("document.querySelectorAll('figure.chart').forEach((chart) => chart.scrollIntoView())")
        page.size(1300, 20_000)  # all of it is seen, so that each chart is drawn
        page.until(
            "document.querySelectorAll('.drawing.drawn').length === document.querySelectorAll('figure.chart').length"
        )
        page.size(1300, 900)
        yield page


def test_charts_are_live_and_nothing_was_asked_for_or_refused(opened: Page) -> None:
    assert opened.run("document.querySelectorAll('.drawing.drawn').length") >= 14
    told = [each for each in opened.heard if each["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert told == []
    asked = [
        each["params"]["request"]["url"]
        for each in opened.heard
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(set(asked)) == 1


def test_the_pointer_is_told_exact_values(opened: Page) -> None:
    opened.run("document.querySelector('#result .drawing').scrollIntoView({block: 'center'})")
    place = opened.run(
        "(() => { const at = document.querySelector('#result .mark-symbol path').getBoundingClientRect();"
        " return [at.x + at.width / 2, at.y + at.height / 2]; })()"
    )
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    opened.until("document.querySelector('#vg-tooltip-element.visible')")
    told = opened.run("document.querySelector('#vg-tooltip-element').innerText")
    assert "ab_tuned" in told and "adjusted" in told and "anchor accuracy" in told


def test_the_table_of_behaviors_sorts_filters_and_shows_other_predictors(opened: Page) -> None:
    rows = "[...document.querySelectorAll('#behaviors-table tbody tr:not([hidden])')]"
    opened.run("document.querySelectorAll('#behaviors-table thead button')[3].click()")
    recalls = opened.run(f"{rows}.map((row) => Number(row.cells[3].dataset.value))")
    known = [value for value in recalls if value is not None]
    assert len(known) > 10 and known == sorted(known, reverse=True)
    assert opened.run("document.querySelectorAll('#behaviors-table th')[3].ariaSort") == "descending"
    opened.run(
        "(() => { const form = document.querySelector('form.filter'); form.elements.text.value = 'GOOGLE m';"
        " form.dispatchEvent(new Event('input')); })()"
    )
    assert opened.run(f"{rows}.map((row) => row.cells[0].innerText)") == ["Google Maps anchor"]
    before = opened.run(f"{rows}[0].cells[3].textContent")
    opened.run(
        "(() => { const of = document.getElementById('behaviors-of'); of.value = 1;"
        " of.dispatchEvent(new Event('change')); })()"
    )
    assert opened.run(f"{rows}[0].cells[3].textContent") != before
    assert "<script>" in opened.run(f"{rows}[0].cells[5].textContent")
    assert opened.run("document.querySelectorAll('img, td script, li script').length") == 0


@pytest.mark.parametrize(("width", "is_dark"), [(390, False), (1300, True)])
def test_no_width_makes_the_page_wider_than_the_window(opened: Page, width: int, is_dark: bool) -> None:
    opened.size(width, 900, is_dark=is_dark)
    assert opened.run("document.documentElement.scrollWidth") <= width
    # a name is a row of texts that may be parted; none of them stands on two lines
    broken = (
        "[...document.querySelectorAll('.predictor')].flatMap((name) => [...name.childNodes]).filter((part) => {"
        " const range = document.createRange(); range.selectNodeContents(part);"
        " return part.nodeType === 3 && range.getClientRects().length > 1; }).length"
    )
    assert opened.run("document.querySelectorAll('.predictor wbr').length") > 20
    assert opened.run(broken) == 0
