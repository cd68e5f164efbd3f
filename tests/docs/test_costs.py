"""The tables of docs/scale.md are those of the code, and what they tell is within a quarter of what was measured."""

import pytest

from docs.costs import PAGE, card_rows, run_rows, written


@pytest.mark.slow
def test_the_tables_are_fresh() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run python -m docs.costs"


def test_memory_is_told_within_a_quarter_of_what_a_card_measured() -> None:
    rows = list(card_rows())
    assert len(rows) == 7
    for row, told in rows:
        assert told == pytest.approx(row["peak_gib"], rel=0.25), row


def test_tokens_and_bytes_are_told_within_a_quarter_of_what_a_run_took() -> None:
    rows = run_rows()
    assert {"prepare", "score"} <= {row["stage"] for row in rows}
    for row in rows:
        for quantity in ("tokens", "bytes"):
            told, taken = row.get(quantity, (1, 1))
            assert told == pytest.approx(taken, rel=0.25), row
