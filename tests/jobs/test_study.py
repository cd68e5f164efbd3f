"""A study whole, as small as it can be: cells make their logs and bases, records are kept and not made twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

STUDY: dict[str, Any] = {
    "name": "study_tiny",
    "run": "jobs/configs/demo.yaml",
    "seeds": [0],
    "k": [3],
    "users": 60,
    "conversations": 200,
    "values": {
        "one_stage.max_steps": 6,
        "a_tuning.max_steps": 4,
        "b_tuning.max_steps": 2,
        "selection": {"total": 60, "within": "random"},
        "difficulty": {"source": "base", "max_per_behavior": 5},
        "evaluation.max_samples": 80,
        "evaluation.max_validation_samples": 40,
        "evaluation.retention_conversations": 0,
        "execution": {"scoring_actors": 1, "tuning": {"workers": 1}},
    },
    "arms": {"at_once": {"tuning": "one_stage"}, "a_then_b": {"tuning": "ab_tuned"}},
    "shots": {3: {"tail_samples": 3}},
}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_runs_keeps_records_and_is_not_run_again(tmp_path: Path) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(STUDY | {"root": str(tmp_path / "runs")}))
    command = [sys.executable, "-m", "jobs.study", "--config", str(config)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    folder = tmp_path / "runs" / "study_tiny" / "records"
    record = json.loads((folder / "k3-knowledge1-0.json").read_text())
    assert (
        record["samples"]["few_shot"]["train"]["tail"] < record["samples"]["few_shot"]["train"]["tail_there"]
    )
    assert {"one stage, adjusted", "A+B, adjusted", "recommended"} <= set(record["roles"])
    assert all(of["both"] <= record["best"]["both"] for of in record["models"].values())
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "cell 1 of 1" not in again.stdout
    assert "### k = 3, knowledge 1 (seeds 0)" in again.stdout
