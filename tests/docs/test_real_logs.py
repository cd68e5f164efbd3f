"""The tables of real logs are those of the records."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import tables
from docs.real_logs import DETAILS, SUMMARY, details, records, summary, written


@pytest.mark.parametrize(
    ("page", "lines"), [(SUMMARY, summary), (DETAILS, details)], ids=["summary", "details"]
)
def test_the_tables_are_fresh(page: Path, lines: Callable[[Any], Iterator[str]]) -> None:
    text = page.read_text(encoding="utf-8")
    assert written(text, lines(records())) == text, "run python -m docs.real_logs"


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for the table gemma"):
        tables.written("a page", "docs.real_logs", {"gemma": ["a line"]})


@pytest.mark.parametrize(("log", "shots", "column"), [("foursquare_nyc", 3, 1), ("smartthings_us", 10, 5)])
@pytest.mark.parametrize(
    ("shown", "predictor"),
    [
        ("one stage", "one_stage"),
        ("A → B at random", "a_then_b"),
        ("best mixture with counting", "one_stage+counts"),
        ("counting as it is served", "counts"),
        ("LightGBM", "lightgbm"),
    ],
)
def test_a_cell_of_the_summary_has_the_numbers_of_its_record(
    log: str, shots: int, column: int, shown: str, predictor: str
) -> None:
    of = json.loads((SUMMARY.parent / "results" / f"{log}_gemma_k{shots}.json").read_text())["models"]
    values = [
        of[predictor][group][key]["value"]
        for group, key in (("all", "accuracy"), ("tail", "accuracy"), ("all", "mrr"))
    ]
    section = SUMMARY.read_text().split("<!-- gemma: written")[1].split("<!-- end of gemma")[0]
    [row] = [line for line in section.splitlines() if line.startswith(f"| {shown} |")]
    assert [cell.strip() for cell in row.strip("|").split("|")][column] == " / ".join(
        f"{value:.3f}"[1:] for value in values
    )
