"""That the programs of other libraries write what preparation writes, row by row, and which rounds a ratio is of."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_preparation, records
from benchmarks.bench_preparation import main


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is as fast as ever, whatever else it does."""
    monkeypatch.setattr(records, "product_teraflops", lambda: 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("steady")
def test_programs_in_polars_and_pandas_write_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "found.json"
    assert main([str(tmp_path), "--events", "5000", "--rounds", "1", "--write", str(written)]) == 0
    told = capsys.readouterr().out
    assert "polars: nothing differs in 5,000 rows" in told
    assert "pandas: nothing differs in 5,000 rows" in told
    found = json.loads(written.read_text())["benchmarks"]
    assert [record["equal"] for record in found] == [True, True]
    assert all(record["arms"]["ours"]["median_written"] > 0.5 for record in found)


@pytest.mark.usefixtures("steady")
def test_a_way_that_held_too_much_memory_is_compared_in_the_rounds_that_it_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seconds: dict[str, list[float | None]] = {
        "ours": [1.0, 2.0],
        "polars": [None, 8.0],
        "pandas": [None, None],
        "floor": [0.5, 0.5],
    }
    order: list[str] = []

    def ran(asked: object, way: str, events: int) -> dict[str, Any] | None:
        order.append(way)
        cpu = seconds[way].pop(0)
        kept = dict.fromkeys(bench_preparation.KEPT, cpu)
        return None if cpu is None else {"cpu_seconds": cpu, "told": "", **kept}

    monkeypatch.setattr(bench_preparation, "_run", ran)
    monkeypatch.setattr(bench_preparation, "write_log", lambda *_: None)
    written = tmp_path / "found.json"
    assert main([str(tmp_path), "--events", "1000001", "--rounds", "2", "--write", str(written)]) == 0
    assert order == ["ours", "polars", "pandas", "floor", "floor", "pandas", "polars", "ours"]
    [record] = records.read(written)
    assert record["name"] == "preparation, polars, 1,000,001 events"
    assert (record["ratio"]["median"], record["rounds"], record["floor_share"]) == (4.0, 1, 0.25)
    assert record["arms"]["ours"]["median_seconds"] == record["arms"]["ours"]["median_wall"] == 2.0
    assert (record["drift"], record["rounds_left_out"]) == (0.0, 0)
