"""A search on a small log: what is shared runs once, a failure ends nothing, and a killed search goes on."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from behaviorlm.config import load_settings
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.validate import validate
from tests.platform.small_runs import log_rows, run_data, save_base, write_conversations, write_log

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]


def search(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the job with a Ray of its own."""
    return run_python("-m", "jobs.search", "--config", str(config), *arguments)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def search_data(folder: Path, root: str = "runs", **keys: Any) -> dict[str, Any]:
    """A search over 2 weights and 3 balances; inputs are made once in `folder`."""
    base, log, talks = folder / "base", folder / "log.csv", folder / "talks.jsonl"
    if not log.exists():
        save_base(base)
        write_conversations(talks)
        write_log(log, log_rows(2, users=40))
    run: dict[str, Any] = run_data(folder / root, base, log)
    run["auxiliary"] = [{"name": "talks", "paths": [str(talks)], "ratio": 0.5}]
    run["b_tuning"] = run["b_tuning"] | {"max_steps": 4}
    run["evaluation"] = run["evaluation"] | {"arms": ["ab_tuned"]}
    space = {"auxiliary.0.weight": [0.1, 0.5], "selection.balance": [0.1, 0.5, 0.9]}
    scheduler = {"name": "asha", "reduction": 2, "rungs": 2}
    defaults = {"space": space, "scheduler": scheduler, "max_concurrent_trials": 3}
    return {"name": "grid", "run": run} | defaults | keys


def write_search(folder: Path, name: str, data: dict[str, Any]) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def times_run(root: Path) -> tuple[dict[str, int], int]:
    """How often each stage below the root ran, to its end or to an error; how many attempts were cut short in all."""
    ran, cut = {}, 0
    for stage in (root / "stages").iterdir():
        attempts = [folder.name for folder in (stage / "attempts").iterdir()]
        manifest = stage / "manifest.json"
        committed = json.loads(manifest.read_text())["attempt"] if manifest.exists() else None
        ended = [
            name == committed or (stage / "attempts" / name / "error.json").exists() for name in attempts
        ]
        ran[stage.name] = sum(ended)
        cut += len(ended) - sum(ended)
    return ran, cut


def kill_search(config: Path, folder: Path, ended: int, delay: float) -> None:
    """Start the job, and kill it and its Ray so many seconds after so many tasks of it have ended, in a stage."""
    stages = folder.parent / "stages"
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.search", "--config", str(config)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(folder.glob("tasks-*/task-*.json"))) < ended:
        time.sleep(0.2)
    while process.poll() is None and not list(stages.glob("*/attempts/*")):
        time.sleep(0.2)
    time.sleep(delay)
    assert process.poll() is None, "the search ended before it could be killed"
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [psutil.Process(process.pid), *family]:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=30)


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
    path = tmp_path / "runs" / "grid" / "summary.json"
    [written] = (path.parent / "logs").iterdir()
    told = first.stdout + first.stderr + written.read_text(encoding="utf-8", errors="replace")
    assert "active Ray instances" not in told  # workers know which of several is theirs
    report = path.with_name("report.html")
    assert first.stdout.splitlines()[-1] == f"wrote the report to {report}"
    summary = json.loads(path.read_text())
    assert [trial["parameters"] for trial in summary["trials"]] == [
        {"auxiliary.0.weight": weight, "selection.balance": balance}
        for weight in (0.1, 0.5)
        for balance in (0.1, 0.9)
    ]
    assert {trial["status"] for trial in summary["trials"]} == {"finished"}
    before, _ = times_run(tmp_path / "runs")
    assert set(before.values()) == {1} and summary["stages"].keys() <= before.keys()
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
    winner = open_run(load_settings(RunSettings, path.with_name("winner.yaml")))
    runner = winner.runner()
    validated = runner.run(validate(winner, "ab_tuned"))
    log = open_log(runner.outputs[prepare(winner).recipe], winner.settings)
    assert validated.reused
    assert validated.manifest.metrics["objective"] == best
    assert {file.partition("/")[0] for file in validated.manifest.files} == {"validation", "metrics.json"}
    assert validated.manifest.rows == {"validation": log.counts["samples_validation"]}

    # Another value of a key: its trial fails (the weights overflow), the others reuse what is there.
    second = search(
        config, "--space.b_tuning.learning_rate=[1.0e-3, 1.0e+30]", "--space.auxiliary.0.weight=[0.1]"
    )
    assert second.returncode == 0, second.stdout + second.stderr
    again = json.loads(path.read_text())
    assert [trial["status"] for trial in again["trials"]] == ["finished", "failed"] * 2
    assert "not finite" in again["trials"][1]["error"]
    after, _ = times_run(tmp_path / "runs")
    assert {stage: after[stage] for stage in before} == before
    new = {stage.partition("-")[0] for stage in after.keys() - before.keys()}
    assert new & set(names) == {"b_tune"}  # a new winner has an evaluation of its own
    assert again["trials"][0]["metrics"] == summary["trials"][0]["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_five_points_a_search_goes_on_with_the_same_trials_and_the_same_winner(
    tmp_path: Path,
) -> None:
    whole = search_data(tmp_path, "whole")
    first = search(write_search(tmp_path, "whole", whole))
    assert first.returncode == 0, first.stdout + first.stderr
    expected = json.loads((tmp_path / "whole" / "grid" / "summary.json").read_text())
    statuses = [trial["status"] for trial in expected["trials"]]
    assert len(statuses) == 6 and set(statuses) == {"finished", "stopped"}
    of_trials = {stage: times_run(tmp_path / "whole")[0][stage] for stage in expected["stages"]}
    assert set(of_trials.values()) == {1}
    assert expected["cost"] < expected["cost_unshared"]

    config = write_search(tmp_path, "killed", search_data(tmp_path, "killed"))
    folder = tmp_path / "killed" / "grid"
    tasks = sum(len(trial["rungs"]) for trial in expected["trials"])
    seeded = random.Random(4)
    for ended in sorted(seeded.sample(range(tasks - 1), 5)):
        kill_search(config, folder, ended, seeded.uniform(0, 8))
    last = search(config)
    assert last.returncode == 0, last.stdout + last.stderr
    found = json.loads((folder / "summary.json").read_text())
    assert [trial["parameters"] for trial in found["trials"]] == [
        trial["parameters"] for trial in expected["trials"]
    ]
    assert [trial["status"] for trial in found["trials"]] == statuses
    assert [trial["metrics"] for trial in found["trials"]] == [
        pytest.approx(trial["metrics"], abs=1e-3) for trial in expected["trials"]
    ]
    ran, cut = times_run(tmp_path / "killed")
    assert cut > 0  # kills fell into stages
    assert found["winner"]["parameters"] == expected["winner"]["parameters"]
    assert {ran[stage] for stage in found["stages"]} == {1}
    assert len(list(folder.glob("tasks-*/task-*.json"))) == tasks

    winner = run_python("-m", "jobs.run", "--config", str(folder / "winner.yaml"))
    assert winner.returncode == 0, winner.stdout + winner.stderr
    results = json.loads((tmp_path / "killed" / "grid_winner" / "results.json").read_text())
    for name in ("objective", "anchor_accuracy", "tail_macro_recall"):
        assert results["validation"]["ab_tuned"][name] == pytest.approx(
            found["winner"]["metrics"][name], abs=1e-3
        )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_example_for_a_tuner_of_ones_own_runs(tmp_path: Path) -> None:
    config = write_search(tmp_path, "run", search_data(tmp_path)["run"])
    text = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Tuner" in block)
    assert "jobs/configs/demo.yaml" in example
    script = tmp_path / "own_tuner.py"
    script.write_text(example.replace("jobs/configs/demo.yaml", str(config)), encoding="utf-8")
    done = run_python(str(script))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best:" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_floor_that_no_trial_reaches_and_a_wait_for_what_is_not_there_are_told(tmp_path: Path) -> None:
    space = {"selection.balance": [0.1, 0.9]}
    data = search_data(
        tmp_path,
        space=space,
        scheduler="none",
        objective={"name": "tail", "floor": 0.9, "floor_arm": "a_tuned"},
    )
    done = search(write_search(tmp_path, "floor", data))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no trial reaches the floor: anchor accuracy at least" in done.stderr
    assert json.loads((tmp_path / "runs" / "grid" / "summary.json").read_text())["winner"] is None

    data = search_data(tmp_path, space=space, scheduler="none")
    data["run"]["execution"] = {"scoring_actors": 1, "tuning": {"workers": 1, "cpus_per_worker": 1000}}
    data |= {"budget": {"wall_seconds": 100}, "name": "waits"}
    data["run"]["b_tuning"]["max_steps"] = 3
    done = search(write_search(tmp_path, "waits", data))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"waiting for .*CPU: 1000.*the cluster has", done.stdout), done.stdout
    assert "the budget was used up before one trial was tuned whole" in done.stderr
