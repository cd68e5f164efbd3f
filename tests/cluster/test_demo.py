"""The cluster demo, everything on S3: the cluster grows for a run and for a search, and is back to its head after."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.demo import SMALLER, demo_inputs
from cluster.local_cluster import ROOT

Json = dict[str, Any] | float | str | None

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3000)]


def demo(folder: Path, *options: str) -> dict[str, Any]:
    """Run it. Returns what it counted."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster.demo", "--folder", str(folder), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    counted: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
    assert counted["samples"][0]["nodes"] == counted["final"] == 1
    return counted


def numbers(value: Json, path: str = "") -> dict[str, float]:
    """Every number of a results file by its place."""
    if isinstance(value, dict):
        return {
            name: n for key, inner in value.items() for name, n in numbers(inner, f"{path}/{key}").items()
        }
    return {path: value} if isinstance(value, int | float) else {}


def test_the_cluster_grows_for_preparation_tuning_and_scoring_and_measures_what_one_machine_does(
    tmp_path: Path,
) -> None:
    counted = demo(tmp_path, "--small")
    for stage in ("prepare", "a_tune", "score", "b_tune"):
        assert counted["most_by_stage"][stage] > 1, counted
    assert counted["most"] > 2, counted  # scoring asks for more than one node
    found = json.loads((tmp_path / "results.json").read_text())
    assert {"untuned", "a_tuned", "ab_tuned"} <= found["models"].keys()

    here = {"storage.root": str(tmp_path / "local"), "execution.scoring_actors": 2}
    values = SMALLER | demo_inputs(str(tmp_path / "world")) | here
    options = [f"--{key}={json.dumps(value)}" for key, value in values.items()]
    command = [sys.executable, "-m", "jobs.run", "--config", "jobs/configs/demo.yaml", *options]
    subprocess.run(command, cwd=ROOT, check=True)
    local = json.loads((tmp_path / "local" / "demo" / "results.json").read_text())
    assert numbers(found) == pytest.approx(numbers(local), abs=1e-3)


def test_a_search_grows_the_cluster_with_its_trials(tmp_path: Path) -> None:
    assert demo(tmp_path, "--search")["most"] > 2  # two trials at a time ask for more than one node
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["trials"]) == 4
    assert {trial["status"] for trial in summary["trials"]} == {"finished", "stopped"}
    assert set(summary["stages"].values()) == {1}
