"""The report of a search: what it shows, also of a search in which little came out, and that it opens offline."""

import re
from pathlib import Path
from typing import Any

from behaviorlm.config import load_settings
from behaviorlm_ray.search.report import render_search_report, write_search_report
from behaviorlm_ray.search.settings import SearchSettings

KEYS: dict[str, list[Any]] = {"auxiliary.0.weight": [0.1, 0.5], "selection.within": ["mixed", "<b>hard</b>"]}


def settings(**keys: Any) -> SearchSettings:
    data = {"name": "s", "space": KEYS, "scheduler": {"name": "asha", "reduction": 2, "rungs": 2}} | keys
    return load_settings(SearchSettings, data=data)


def trial(number: int, status: str, *objectives: float) -> dict[str, Any]:
    rungs: list[dict[str, Any]] = [
        {
            "rung": rung,
            "steps": 5 * rung,
            "metrics": {"objective": value, "anchor_accuracy": value + 0.1, "tail_macro_recall": value - 0.1},
        }
        for rung, value in enumerate(objectives, 1)
    ]
    return {
        "trial": number,
        "parameters": {
            "auxiliary.0.weight": (0.1, 0.5)[number % 2],
            "selection.within": KEYS["selection.within"][number // 2 % 2],
        },
        "status": status,
        "metrics": rungs[-1]["metrics"] if rungs else {},
        "rungs": rungs,
        "steps": 5 * len(rungs) or None,
        "steps_of_whole": 10 if rungs else None,
        "cost": 1234.0 if rungs else None,
        "error": None if rungs else "diverged <script>",
    }


def summary(*trials: dict[str, Any], winner: int | None) -> dict[str, Any]:
    best = None
    if winner is not None:
        chosen = trials[winner]
        best = {key: chosen[key] for key in ("trial", "parameters", "metrics")}
    return {
        "ended_by": "whole",
        "trials": list(trials),
        "stages": {"a_tune-0123": 250.0},
        "cost": 300.0,
        "cost_unshared": 1000.0,
        "objective": {"floor_value": None},
        "winner": best,
        "alike": [[0, 3]],
    }


def test_a_floor_is_drawn_and_a_budget_that_ended_it_is_told(
    tmp_path: Path,
) -> None:
    trials = [trial(0, "finished", 0.3, 0.4), trial(1, "finished", 0.35, 0.5)]
    found = summary(*trials, winner=1) | {"ended_by": "budget", "objective": {"floor_value": 0.1}}
    page = render_search_report(settings(objective={"name": "tail", "floor": 0.1}), found, tmp_path)
    assert "Dashed: the floor for anchor accuracy" in page
    assert "A budget was used up before all was tried" in page
    assert "Dashed" not in render_search_report(settings(), summary(*trials, winner=1), tmp_path)


def test_the_report_shows_winner_trials_and_cost(tmp_path: Path) -> None:
    trials = [
        trial(0, "finished", 0.3, 0.4),
        trial(1, "stopped", 0.2),
        trial(2, "failed"),
        trial(3, "finished", 0.35, 0.5),
        trial(4, "stopped", 0.1),
    ]
    path = write_search_report(settings(), summary(*trials, winner=3), tmp_path)
    assert path == tmp_path / "report.html"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"""(?:src|href)=["'](?!#)|https?://(?!www\.w3\.org)|<script|@import""", page)
    assert "diverged &lt;script&gt;" in page and "&lt;b&gt;hard&lt;/b&gt;" in page
    assert f"behaviorlm run --config {tmp_path / 'winner.yaml'}" in page
    assert page.count("<svg") == 1
    assert "30" in page and "a_tune-0123" in page
    assert "Trials 1, 4 came to the same model" in page
    for title in (
        "Winner",
        "Anchor and tail",
        "Trials",
        "Cost",
    ):
        assert f"<h2>{title}</h2>" in page
    tested = summary(*trials, winner=3)
    interval = {"value": 0.41, "low": 0.4, "high": 0.42}
    tested["winner"]["test"] = {"anchor_accuracy": interval, "tail_macro_recall": interval}
    assert "Measured once on test" in render_search_report(settings(), tested, tmp_path)


def test_a_search_in_which_nothing_came_out_has_a_report_too(tmp_path: Path) -> None:
    page = render_search_report(settings(), summary(trial(0, "failed"), winner=None), tmp_path)
    assert "No trial won" in page and "Nothing was measured" in page
    assert "<svg" not in page
