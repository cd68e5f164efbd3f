"""The configurations of exhibits: those that are shipped, and what is refused before anything runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_lab.paper.making import FUNCTIONS
from behaviorlm_lab.paper.runs import needed_runs
from behaviorlm_lab.paper.settings import PaperSettings, every_exhibit, exhibits_of, run_settings
from behaviorlm_lab.paper.work import work_to_do

ROOT = Path(__file__).resolve().parents[4]
PAPER = "jobs/configs/paper/paper.yaml"
TABLES = {"data", "main", "ablations", "sensitivity", "behaviors", "cost"}


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_shipped_exhibits_are_the_papers_and_each_has_runs_that_load() -> None:
    paper = load_settings(PaperSettings, PAPER)
    exhibits = exhibits_of(paper)
    figures = {"figure_1a", "figure_1b", "figure_1c", "figure_2", "figure_3", "figure_4", "figure_5"}
    assert exhibits.keys() == figures | {f"table_{name}" for name in TABLES}
    assert {name for name, of in every_exhibit(paper).items() if of.on_request} == {
        "figure_3_gemma",
        "figure_3_large",
    }
    assert {of.shows for of in exhibits.values()} == FUNCTIONS.keys()
    runs = needed_runs(paper)
    assert {name: run.base_size for name, run in runs.items() if run.base_size} == {
        f"small_{shots}": "small" for shots in ("3", "10", "all")
    }
    for exhibit in exhibits.values():
        for name in exhibit.runs:
            arms = runs[name].settings.evaluation.arms
            assert exhibit.methods.keys() - {"non_llm"} <= set(arms)


def test_work_is_counted_once_for_all_runs_that_share_it() -> None:
    paper = load_settings(PaperSettings, PAPER, ["root=/nonexistent", "only=[table_main, figure_4]"])
    work = Counter(one.kind for one in work_to_do(paper, needed_runs(paper)))
    # one stage, thinned, the tail alone, A, B, and one stage of fewer steps with its B
    assert work["tuning"] == 7 and work["prediction"] == 7 and work["evaluation"] == 1 and work["base"] == 0
    more = load_settings(PaperSettings, PAPER, ["root=/nonexistent", "only=[table_main, table_ablations]"])
    found = work_to_do(more, needed_runs(more))
    # B at random, without balance; A and B without conversations, and keeping the tail
    assert Counter(one.kind for one in found)["tuning"] == 7 + 2 + 4
    assert all(one.seconds is not None and 0 < one.seconds < 600 for one in found)


def test_an_exhibit_adds_its_arms_to_those_of_its_runs() -> None:
    paper = load_settings(PaperSettings, PAPER)
    exhibit = exhibits_of(paper)["table_sensitivity"]
    run = run_settings(paper, exhibit, "sensitivity", {})
    varied = [(key, value) for key, values in exhibit.vary.items() for value in values]
    assert run.evaluation.arms == ["ab_tuned", *(f"varied_{number}" for number in range(len(varied)))]
    assert [run.arms[f"varied_{number}"].values for number in range(len(varied))] == [
        {key: value} for key, value in varied
    ]


@pytest.mark.parametrize(
    ("exhibits", "message"),
    [
        ({}, "has no"),
        ({"a": {"shows": "lines", "title": "t"}}, "lines need an axis"),
        (
            {
                "a": {
                    "shows": "lines",
                    "title": "t",
                    "along": "k",
                    "runs": {"main": {"at": {"k": "1", "size": "2", "base": "3"}}},
                }
            },
            "room for one axis",
        ),
        ({"a": {"shows": "cost", "title": "t", "vary": {"b": [1]}}}, "nothing else does"),
        ({"a": {"shows": "cost", "title": "t", "runs": {"x": {}, "y": {}}}}, "made of one run"),
        ({"a": {"shows": "data", "title": "t", "runs": {"x": {"base_size": "huge"}}}}, "no 'huge'"),
        ({"a": {"shows": "pie", "title": "t"}}, "shows"),
        ({"a": {"shows": "cost", "title": "t", "runs": {"x": {"values": {"a_tuning.epoch": 1}}}}}, "epochs"),
        (
            {
                "a": {"shows": "cost", "title": "t"},
                "b": {"shows": "cost", "title": "t", "runs": {"main": {"values": {"few_shot.seed": 4}}}},
            },
            "b: its run main is not that of an exhibit before it",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    exhibits: dict[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    for name, exhibit in exhibits.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(exhibit), encoding="utf-8")
    paper = load_settings(PaperSettings, PAPER, [f"exhibits={tmp_path}", f"root={tmp_path / 'runs'}"])
    with pytest.raises(ConfigError, match=message):
        needed_runs(paper)
    with pytest.raises(ConfigError, match="there is no figure_9"):
        exhibits_of(load_settings(PaperSettings, PAPER, ["only=[figure_9]"]))
