"""A search on a small log: what is shared runs once, a failed trial ends nothing, a second search reuses everything."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from behaviorlm.config import load_settings
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.settings import RunSettings
from behaviorlm_ray.stages import StageOutput
from tests.platform.small_runs import log_rows, run_data, save_base, write_conversations, write_log

ROOT = Path(__file__).resolve().parents[2]


def search(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the job with a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "jobs.search", "--config", str(config), *arguments],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)  # Ray's start-up for each tuning takes long on a busy machine
def test_trials_share_their_stages_and_a_second_search_runs_only_what_is_new(tmp_path: Path) -> None:
    run: dict[str, Any] = run_data(
        tmp_path / "runs",
        save_base(tmp_path / "base"),
        write_log(tmp_path / "log.csv", log_rows(2, users=40)),
    )
    talks = write_conversations(tmp_path / "talks.jsonl")
    run["auxiliary"] = [{"name": "talks", "paths": [str(talks)], "ratio": 0.5}]
    space = {"auxiliary.0.weight": [0.1, 0.5], "selection.balance": [0.1, 0.9]}
    config = tmp_path / "search.yaml"
    config.write_text(
        yaml.safe_dump({"name": "grid", "run": run, "space": space, "max_concurrent_trials": 2})
    )

    first = search(config)
    assert first.returncode == 0, first.stdout + first.stderr
    assert (
        "active Ray instances" not in first.stdout + first.stderr
    )  # workers know which of several is theirs
    path = tmp_path / "runs" / "grid" / "summary.json"
    assert first.stdout.splitlines()[-1] == f"wrote the summary to {path}"
    summary = json.loads(path.read_text())
    assert [trial["parameters"] for trial in summary["trials"]] == [
        {"auxiliary.0.weight": weight, "selection.balance": balance}
        for weight in (0.1, 0.5)
        for balance in (0.1, 0.9)
    ]
    assert {trial["status"] for trial in summary["trials"]} == {"finished"}
    assert set(summary["stages"].values()) == {1}
    names = [stage.partition("-")[0] for stage in summary["stages"]]
    assert {name: names.count(name) for name in names} == {
        "prepare": 1,
        "conversations": 1,
        "a_tune": 2,
        "score": 2,
        "select": 4,
        "b_tune": 4,
        "validate_ab_tuned": 4,
    }
    best = max(trial["metrics"]["objective"] for trial in summary["trials"])
    assert summary["winner"]["metrics"]["objective"] == best
    for trial in summary["trials"]:
        anchor, tail = trial["metrics"]["anchor_accuracy"], trial["metrics"]["tail_macro_recall"]
        assert trial["metrics"]["objective"] == pytest.approx((anchor + tail) / 2)

    # The winner's configuration names the stages that the search has run, and they hold no score of a test sample.
    winner = Pipeline(load_settings(RunSettings, path.with_name("winner.yaml")))
    validated = winner.validated("ab_tuned")
    assert isinstance(validated, StageOutput) and validated.reused
    assert validated.manifest.metrics["objective"] == best
    assert {file.partition("/")[0] for file in validated.manifest.files} == {"validation", "metrics.json"}
    assert validated.manifest.rows == {"validation": winner.log().counts["samples_validation"]}

    # Another value of a key: its trial fails (the weights overflow), the others reuse what is there.
    second = search(
        config, "--space.b_tuning.learning_rate=[1.0e-3, 1.0e+30]", "--space.auxiliary.0.weight=[0.1]"
    )
    assert second.returncode == 0, second.stdout + second.stderr
    again = json.loads(path.read_text())
    assert [trial["status"] for trial in again["trials"]] == ["finished", "failed"] * 2
    assert "not finite" in again["trials"][1]["error"]
    ran = {stage.partition("-")[0] for stage, number in again["stages"].items() if number}
    assert ran == {"b_tune"}
    assert again["trials"][0]["metrics"] == summary["trials"][0]["metrics"]
