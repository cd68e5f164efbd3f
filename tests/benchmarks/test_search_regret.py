"""What a search saved and lost against the whole grid: computed from the two summaries, and held against limits."""

from typing import Any

import pytest

from benchmarks.search_regret import (
    correlation_with_grid,
    means_by_value,
    place_of_best,
    problems_of,
    regret_of,
    table,
)


def summary(values: dict[int, list[float]], cost: float) -> dict[str, Any]:
    """Trials by number with their objectives at each rung; those with the most rungs are whole."""
    rungs = max(len(each) for each in values.values())
    trials: list[dict[str, Any]] = [
        {
            "parameters": {"selection.balance": number / 10},
            "status": "finished" if len(each) == rungs else "stopped",
            "metrics": metrics(each[-1]),
            "rungs": [{"rung": rung, "metrics": metrics(value)} for rung, value in enumerate(each, 1)],
        }
        for number, each in values.items()
    ]
    whole = [trial for trial in trials if trial["status"] == "finished"]
    best = max(whole, key=lambda trial: trial["metrics"]["objective"])
    return {
        "trials": trials,
        "winner": best,
        "cost": cost,
        "cost_unshared": 4 * cost,
        "stages": {"a_tune": 1},
    }


def metrics(value: float) -> dict[str, float]:
    return {"objective": value, "anchor_accuracy": value, "tail_macro_recall": value}


FOUND = summary({0: [0.1], 1: [0.3, 0.4], 2: [0.2], 3: [0.25, 0.35]}, cost=100)
GRID = summary({0: [0.2], 1: [0.4], 2: [0.45], 3: [0.35]}, cost=125)


def test_regret_is_what_the_winner_lacks_against_the_best_of_the_grid() -> None:
    assert regret_of(FOUND, GRID) == pytest.approx(0.05)
    assert regret_of(GRID, GRID) == 0


def test_a_rung_is_held_against_the_end_over_all_trials_also_those_that_were_stopped_there() -> None:
    (first, trials, correlation), *others = correlation_with_grid(FOUND, GRID)
    assert (first, trials, others) == (1, 4, [])
    assert correlation == pytest.approx(0.4)  # ranks 1 4 2 3 against 1 3 4 2: 1 - 6 * 6 / (4 * 15)


def test_the_place_of_the_grids_best_at_the_first_rung_and_means_by_value() -> None:
    assert place_of_best(FOUND, GRID) == 3  # trial 2: .2 after .3 and .25
    ((key, means),) = means_by_value(GRID)
    assert (key, means) == ("selection.balance", {0.0: 0.2, 0.1: 0.4, 0.2: 0.45, 0.3: 0.35})
    ((_, of_whole),) = means_by_value(FOUND)
    assert of_whole == {0.1: 0.4, 0.3: 0.35}  # without those that were stopped


def test_what_is_above_a_limit_is_told() -> None:
    assert problems_of(FOUND, GRID, 0.2, 0.05) == []
    cost, regret = problems_of(FOUND, GRID, 0.19, 0.049)
    assert cost == "the search cost 0.200 of the unshared, allowed is 0.19"
    assert regret == "the winner is 0.0500 below the best of the grid, allowed is 0.049"
    assert "| search | 2 of 4 | 100 | 0.200 | 0.4000 | 0.4000 | 0.4000 |" in table(FOUND, GRID)
