"""Hours follow from operations, and from shares of the peak and seconds an event that stand in records."""

import json
from pathlib import Path

import pytest

from behaviorlm_ray.costs.cards import card_of
from behaviorlm_ray.costs.stage_cost import (
    COUNT_SECONDS,
    MEASURED_SHARES,
    PREPARE_SECONDS,
    StageCost,
    measured_share,
    model_hours,
    table,
)

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
RECORD = RESULTS / "nvidia-h200.json"
SHAPES = ("0.5B", "1.5B", "8B")


def best(kind: str, shape: str) -> float:
    """The largest share of a shape in the record; scoring: over the trie."""
    rows = [row for run in json.loads(RECORD.read_text())["runs"] for row in run["sections"].get(kind, [])]
    return max(
        row["mfu"]
        for row in rows
        if row["shape"] == shape
        and not row.get("checkpointing")
        and row.get("normalization", "trie") == "trie"
    )


@pytest.mark.parametrize("kind", MEASURED_SHARES)
def test_shares_are_those_of_the_record(kind: str) -> None:
    assert [share for _, share in MEASURED_SHARES[kind]] == pytest.approx(
        [best(kind, shape) for shape in SHAPES], abs=6e-4
    )


@pytest.mark.parametrize(("step", "told"), [("prepare", PREPARE_SECONDS), ("evaluate", COUNT_SECONDS)])
def test_seconds_an_event_are_within_a_quarter_of_those_of_ten_million_events(step: str, told: float) -> None:
    [row] = [
        row
        for row in json.loads((RESULTS / "growth.json").read_text())["now"]
        if (row["step"], row["events"]) == (step, 10_000_000)
    ]
    assert told == pytest.approx(row["cpu_seconds"] / row["events"], rel=0.25)


def test_a_size_between_is_told_from_its_neighbors() -> None:
    (small, low), (middle, measured), (large, high) = MEASURED_SHARES["tuning"]
    assert measured_share("tuning", small / 9) == low and measured_share("tuning", large * 9) == high
    assert measured_share("tuning", middle) == pytest.approx(measured)
    assert low < measured_share("tuning", 0.7e9) < measured


def test_hours_are_of_one_card_or_of_a_core_or_not_told() -> None:
    cost, card = StageCost(operations=3.6e18, share=0.25), card_of("NVIDIA H200")
    assert card is not None
    assert model_hours(cost, card, None) == pytest.approx(3.6e18 / (989e12 * 0.25) / 3600)
    assert model_hours(cost, None, 20.0) == pytest.approx(3.6e18 / 20e9 / 3600)
    assert model_hours(cost, None, None) is None
    assert model_hours(StageCost(tokens=1e6), card, None) is None, "work that is not known is not free"


def test_a_table_sums_what_adds_up_and_takes_the_most_of_what_does_not() -> None:
    rows = [
        ("a", StageCost(1e6, 2e12, 0.1, 3e9, 4e9, 5e9, 3600)),
        ("b", StageCost(2e6, 3e12, 0.1, 2e9, 1e9, 9e9, 0)),
    ]
    lines = table(rows, None, 1.0, 2.0)
    assert lines[-2].split() == ["all", "3", "M", "5", "T", "3", "GB", "5", "GB", "9", "GB", "1.4", "1"]
    assert lines[-1].strip().startswith("2.78 in the currency")


def test_a_stage_without_a_model_takes_no_hours_of_a_card() -> None:
    rows = [("prepare", StageCost(disk=500, cpu=3600)), ("a", StageCost(1e6, 989e12 * 3600, 0.25))]
    prepare, _, whole, price = table(rows, card_of("H200"), None, 2.0)[1:]
    assert prepare.split() == ["prepare", "-", "-", "-", "500", "B", "-", "-", "1"]
    assert whole.split()[-2:] == ["4", "1"] and price.strip().startswith("8.00 in the currency")
