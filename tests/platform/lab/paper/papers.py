"""A small paper: a log, a run, and an exhibit of every kind, in files."""

from pathlib import Path
from typing import Any

import yaml

from behaviorlm.config import load_settings
from behaviorlm_lab.paper.settings import PaperSettings
from tests.platform.small_runs import log_rows, run_data, write_log

METHODS = {"non_llm": "counting", "one_stage": "one stage", "ab_tuned": "A → B"}
EXHIBITS: dict[str, dict[str, Any]] = {
    "figure_1a": {"shows": "distribution", "title": "Distribution", "manner": "Fig. 1a"},
    "figure_1b": {
        "shows": "map",
        "title": "Map",
        "methods": {"untuned": "before", "ab_tuned": "after"},
        "rule": "plain",
    },
    "figure_1c": {"shows": "accuracy", "title": "Accuracy", "methods": METHODS},
    "figure_2": {"shows": "framework", "title": "Framework"},
    "figure_5": {
        "shows": "lines",
        "title": "Shares",
        "along": "share",
        "methods": {"non_llm": "counting", "one_stage": "one stage"},
        "runs": {
            "half": {
                "at": {"share": "50%"},
                "values": {
                    "few_shot.share": 0.5,
                    "evaluation.arms": ["one_stage"],
                    "evaluation.opponents": [],
                },
            },
            "main": {"at": {"share": "100%"}},
        },
    },
    "table_ablations": {
        "shows": "ablations",
        "title": "Ablations",
        "methods": {"ab_tuned": "whole", "a_tuned": "A"},
    },
    "table_behaviors": {"shows": "behaviors", "title": "Behaviors", "methods": METHODS},
    "table_cost": {"shows": "cost", "title": "Cost"},
    "table_data": {"shows": "data", "title": "Data"},
    "table_main": {"shows": "main", "title": "Main", "rule": "plain"},
    "table_sensitivity": {
        "shows": "sensitivity",
        "title": "Sensitivity",
        "vary": {"selection.total": [20]},
        "runs": {"varied": {"values": {"evaluation.arms": ["ab_tuned"], "evaluation.opponents": []}}},
    },
}


def small_paper(
    folder: Path, base: Path, exhibits: dict[str, dict[str, Any]] = EXHIBITS, **keys: Any
) -> PaperSettings:
    """Its settings; files are written below the folder."""
    log = write_log(folder / "log.csv", log_rows(21, users=20))
    data = run_data(folder / "runs", base, log)
    data["difficulty"] = {"source": "base"}
    data["evaluation"]["arms"] = ["untuned", "one_stage", "a_tuned", "ab_tuned"]
    data["evaluation"]["opponents"] = ["gru4rec"]
    (folder / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    (folder / "exhibits").mkdir(exist_ok=True)
    for name, exhibit in exhibits.items():
        text = yaml.safe_dump(exhibit, allow_unicode=True, sort_keys=False)
        (folder / "exhibits" / f"{name}.yaml").write_text(text, encoding="utf-8")
    values = {
        "name": "small",
        "root": str(folder / "runs"),
        "run": str(folder / "run.yaml"),
        "exhibits": str(folder / "exhibits"),
        "world": None,
    }
    return load_settings(PaperSettings, None, (), values | keys)
