"""A study whole, as small as it can be: conditions make their logs and bases, records are kept and not made twice."""

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
    "users": 60,
    "conversations": 200,
    "values": {
        "one_stage.max_steps": 6,
        "a_tuning.max_steps": 4,
        "b_tuning.max_steps": 2,
        "difficulty.max_per_behavior": 5,
        "evaluation.max_samples": 80,
        "evaluation.max_validation_samples": 40,
        "evaluation.retention_conversations": 3,
        "evaluation.arms": ["untuned", "one_stage", "ab_tuned"],
        "execution.tuning.workers": 1,
        "execution.scoring_actors": 1,
    },
    "examine": ["ab_tuned"],
    "conditions": {"main": {}, "random_base": {"base": "random", "arms": ["untuned"]}},
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
    record = json.loads((folder / "main-0.json").read_text())
    assert record["optimizer_samples"]["untuned"] == 0
    assert record["optimizer_samples"]["ab_tuned"] == pytest.approx(6 * 32, abs=6)
    examined = record["difficulty"]["ab_tuned"]
    assert 0 < examined["selected"]["all"]["samples"] < examined["scored"]["all"]["samples"]
    assert set(examined["measures"]) == {"nll", "rank", "margin", "excess"}
    assert -1 <= examined["measures"]["nll"]["with the truth"]["all"] <= 1
    random_base = json.loads((folder / "random_base-0.json").read_text())
    shipped, random = (r["retention"]["untuned"]["everyday"]["loss"] for r in (record, random_base))
    assert shipped < 3 < random  # one has read small talk, the other nothing
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "run 1 of 2" not in again.stdout
    assert "### random_base (seeds 0)" in again.stdout
