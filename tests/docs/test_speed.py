"""The tables of docs/benchmarks.md are those of the record."""

from benchmarks.records import read
from docs.speed import PAGE, RECORD, written


def test_the_tables_are_fresh() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, read(RECORD)) == page, "run python -m docs.speed"
