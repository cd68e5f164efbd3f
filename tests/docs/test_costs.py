"""The tables of docs/scale.md are those of the code, and memory is told within a quarter of what was measured."""

import pytest

from docs.costs import PAGE, card_rows, written


@pytest.mark.slow
def test_the_tables_are_fresh() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run python -m docs.costs"


def test_memory_is_told_within_a_quarter_of_what_a_card_measured() -> None:
    rows = list(card_rows())
    assert len(rows) == 7
    for row, told in rows:
        assert told == pytest.approx(row["peak_gib"], rel=0.25), row
