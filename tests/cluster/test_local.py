"""cluster/local.yaml with Ray's real autoscaler: it grows for a job or the job says why not; jobs stop resumably."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.autoscaler._private.util import prepare_config, validate_config

from behaviorlm_ray.upkeep.status import stages_under
from cluster.local_cluster import CONFIG, MARK, RAY, ROOT, LocalCluster, end_marked, local_cluster
from tests.cluster.scheduling import launched
from tests.jobs.demo_inputs import demo_inputs

pytestmark = pytest.mark.timeout(1500)


def test_ray_and_the_scheduler_accept_it() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    validate_config(prepare_config(config))
    assert config["provider"]["head_node_id"] == FAKE_HEAD_NODE_ID
    assert config["head_node_type"] == FAKE_HEAD_NODE_TYPE
    assert launched(config, [{"CPU": 1.0}] * 2) == {"worker": 1}
    assert launched(config, [{"CPU": 2.0}] * 9) == {"worker": 3}


def test_only_marked_processes_are_ended() -> None:
    command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    marked, other = (
        subprocess.Popen(command, env=os.environ | {MARK: mark}, stdout=subprocess.PIPE)
        for mark in ("this", "other")
    )
    try:
        for process in (marked, other):
            assert process.stdout is not None
            process.stdout.readline()  # it runs
        end_marked("this")
        assert not psutil.pid_exists(marked.pid)
        assert other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of the demo's configuration: inputs of our own, and many steps with a checkpoint after each."""
    settings = {
        "a_tuning.epochs": 40,
        "a_tuning.max_steps": 60,
        "a_tuning.samples_per_step": 8,
        "execution.tuning.checkpoint_every_steps": 1,
        "execution.tuning.progress_every_seconds": 0,
    }
    return demo_inputs(tmp_path_factory.mktemp("local"), settings)


def ray(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(RAY), "job", arguments[0], "--address", cluster.dashboard, *arguments[1:]]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=cluster.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def submit(cluster: LocalCluster, *arguments: str, name: str = "") -> subprocess.CompletedProcess[str]:
    options = ["--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml"]
    options += ["--submission-id", name, "--no-wait"] if name else []
    return ray(cluster, "submit", *options, "--", "python", "-m", *arguments)


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_job_leaves_a_state_from_which_the_next_goes_on(
    cluster: LocalCluster, inputs: list[str]
) -> None:
    run = ["jobs.a_tune", "--config", "jobs/configs/demo.yaml", *inputs]
    assert submit(cluster, *run, name="first").returncode == 0
    root = json.loads(inputs[0].partition("=")[2])
    deadline = time.monotonic() + 600
    while True:
        running = [one for one in stages_under(root) if one.stage == "a_tune"] if Path(root).exists() else []
        step = re.match(r"step (\d+) of", running[0].progress) if running else None
        if step and int(step[1]) >= 3:
            break
        assert time.monotonic() < deadline, ray(cluster, "logs", "first").stdout
        time.sleep(0.5)
    assert running[0].state == "running"
    assert ray(cluster, "stop", "first").returncode == 0
    logs = ray(cluster, "logs", "first").stdout
    assert "interrupted; run the same command again to continue" in logs
    [stopped] = [one for one in stages_under(root) if one.stage == "a_tune"]
    assert stopped.state == "interrupted"
    assert not list(Path(root).glob("stages/a_tune-*/lease.json"))  # nobody has to wait for it to expire

    again = submit(cluster, *run)
    assert again.returncode == 0, again.stdout
    assert "continuing from " in again.stdout
    assert ": reused from " in again.stdout and "wrote a_tune to " in again.stdout
    [finished] = [one for one in stages_under(root) if one.stage == "a_tune"]
    assert finished.state == "finished"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "waited", "why"),
    [
        (
            {"cpus_per_worker": 5},
            "waiting for 1 x {CPU: 5}",
            "no node can have 5 CPU, and the most that one node has is 2; raise max_workers or add a node type",
        ),
        (
            {"cpus_per_worker": 2, "workers": 4},
            "waiting for 4 x {CPU: 2}",
            "the cluster can give 3 of 4 at most (8 CPU asked for, 6 at most); raise max_workers",
        ),
    ],
)
def test_a_request_that_the_cluster_cannot_serve_is_told_with_what_is_missing(
    cluster: LocalCluster, inputs: list[str], asked: dict[str, int], waited: str, why: str
) -> None:
    name = f"too-large-{asked['cpus_per_worker']}"
    options = {f"--execution.tuning.{key}": value for key, value in asked.items()}
    others = [option for option in inputs if option.partition("=")[0] not in options]
    asked_for = [f"{key}={value}" for key, value in options.items()]
    run = ["jobs.a_tune", "--config", "jobs/configs/demo.yaml", *others, *asked_for, "--a_tuning.seed=1"]
    assert submit(cluster, *run, name=name).returncode == 0
    deadline = time.monotonic() + 400
    while waited not in (logs := ray(cluster, "logs", name).stdout):
        assert time.monotonic() < deadline, logs
        time.sleep(3)
    ray(cluster, "stop", name)
    assert why in next(line for line in logs.splitlines() if waited in line)
