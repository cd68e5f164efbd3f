"""That the programs of other libraries write what preparation writes, row by row."""

import json
from pathlib import Path

import pytest

from benchmarks.bench_preparation import main

pytestmark = pytest.mark.slow


def test_programs_in_polars_and_pandas_write_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "found.json"
    assert main([str(tmp_path), "--events", "5000", "--rounds", "1", "--write", str(written)]) == 0
    told = capsys.readouterr().out
    assert "polars: nothing differs in 5,000 rows" in told
    assert "pandas: nothing differs in 5,000 rows" in told
    records = json.loads(written.read_text())["benchmarks"]
    assert [record["equal"] for record in records] == [True, True]
    assert all(record["arms"]["ours"]["median_written"] > 0.5 for record in records)
