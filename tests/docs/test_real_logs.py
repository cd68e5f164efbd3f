"""The tables of real logs are those of the records."""

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
