"""How growth is told, and gone on with: exponents between neighbors, nothing measured twice, an end where one fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth


def found(step: str, events: int, power: float) -> dict[str, Any]:
    keys = ("cpu_seconds", "seconds", "peak", "peak_own", "read", "written", "disk")
    return {"step": step, "events": events, "told": "", **dict.fromkeys(keys, events**power)}


def test_exponents_are_those_between_neighbors_in_size() -> None:
    lines = list(growth._exponents([found("prepare", 1000, 1.5), found("prepare", 10, 1.0)]))
    assert len(lines) == 1 and lines[0].startswith("from 10 to 1,000: exponents cpu_seconds 1.75, peak 1.75")
    assert list(growth._exponents([found("prepare", 10, 1.0)])) == []


def test_what_is_measured_is_kept_and_after_a_failure_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def measured(_: Any, step: str, events: int) -> dict[str, Any] | None:
        asked.append((step, events))
        return None if (step, events) == ("prepare", 20) else found(step, events, 1.0)

    monkeypatch.setattr(growth, "_in_its_own_process", measured)
    options = ["--steps", "log", "prepare", "schedule", "--write", str(tmp_path / "found.json")]
    for _ in range(2):
        assert growth.main([str(tmp_path / "logs"), "--events", "10", "20", "30", *options]) == 1
    first = [(step, 10) for step in ("log", "prepare", "schedule")]
    assert asked == [*first, ("log", 20), ("prepare", 20), ("prepare", 20)]
    assert len(json.loads((tmp_path / "found.json").read_text())) == 4
