"""Jobs submitted to a cluster that asks for a token: `ray start --head` and `ray job submit`, as in the README."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from behaviorlm.world.log import write_log
from tests.platform.small_runs import save_base, write_conversations

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1200)  # Ray's start-up takes long on a busy machine
RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Cluster:
    """A running head node: the address of its dashboard, and an environment with its token."""

    address: str
    environment: dict[str, str]

    def submit(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`ray job submit … -- python -m <arguments>` from the root of the checkout, as the README says."""
        command = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", "."]
        command += ["--runtime-env", "jobs/runtime_env.yaml", "--", "python", "-m", *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment or self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def free_ports(number: int) -> list[str]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [str(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def clean_environment() -> dict[str, str]:
    """Ours, without anything that tells Ray where a cluster is or how to be trusted by it."""
    told = ("RAY_ADDRESS", "RAY_API_SERVER", "RAY_AUTH", "RAY_JOB")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def descendants(process: int) -> list[int]:
    """Process ids of everything that a process started, directly or not."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, waiting = [], [process]
    while waiting:
        started = children.get(waiting.pop(), [])
        found += started
        waiting += started
    return found


def stop(process: subprocess.Popen[str]) -> None:
    """End the head node, and by their ids the processes that it started and that outlive it."""
    started = descendants(process.pid)
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
    for number in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Short, because the path of a Unix socket below it may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="blm-", dir="/tmp"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    gcs, dashboard, client, agent, grpc, runtime, metrics = free_ports(7)
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=3", "--num-gpus=0"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
    command += [f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "--block" in line:  # the last thing it says, when everything has started
                break
        assert process.poll() is None, "".join(printed)
        yield Cluster(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of the demo's configuration: absolute inputs of our own, and few steps."""
    folder = tmp_path_factory.mktemp("submitted")
    write_log(folder / "events.jsonl.gz", 12, seed=0)
    save_base(folder / "base")
    write_conversations(folder / "talks.jsonl")
    settings = {
        "storage.root": str(folder / "runs"),
        "events.paths": [str(folder / "events.jsonl.gz")],
        "model.base": str(folder / "base"),
        "auxiliary.0.paths": [str(folder / "talks.jsonl")],
        "auxiliary.1.paths": [str(folder / "talks.jsonl")],
        "evaluation.cloze": None,
        "a_tuning.max_steps": 2,
        "b_tuning.max_steps": 2,
        "evaluation.arms": ["ab_tuned"],
        "evaluation.max_samples": 40,
        "evaluation.max_validation_samples": 20,
        "evaluation.bootstrap_samples": 50,
        "execution.tuning.workers": 1,
        "execution.scoring_actors": 1,
    }
    return [f"--{key}={json.dumps(value)}" for key, value in settings.items()]


@pytest.mark.slow
def test_a_submitted_run_works_and_submitted_again_it_reuses_everything(
    cluster: Cluster, inputs: list[str]
) -> None:
    run = ["jobs.run", "--config", "jobs/configs/demo.yaml", *inputs]
    first = cluster.submit(*run)
    assert first.returncode == 0, first.stdout
    report = Path(json.loads(inputs[0].partition("=")[2])) / "demo" / "report.html"
    assert f"wrote the report to {report}" in first.stdout
    assert report.is_file()
    results = json.loads(report.with_name("results.json").read_text())
    assert {"ab_tuned", "bigram"} <= results["models"].keys()
    written = [line.split(":")[0] for line in first.stdout.splitlines() if ": written to " in line]
    assert {"prepare", "a_tune", "score", "select", "b_tune", "evaluate"} <= set(written)

    second = cluster.submit(*run)
    assert second.returncode == 0, second.stdout
    assert ": written to " not in second.stdout
    reused = [line.split(":")[0] for line in second.stdout.splitlines() if ": reused from " in line]
    assert sorted(reused) == sorted(written)
    assert f"wrote the report to {report}" in second.stdout


@pytest.mark.slow
def test_paths_that_a_submitted_job_cannot_see_are_refused_with_their_keys(
    cluster: Cluster, inputs: list[str]
) -> None:
    run = ["jobs.run", "--config", "jobs/configs/demo.yaml"]
    relative = cluster.submit(*run, "--storage.root=runs")
    assert relative.returncode != 0
    assert "storage.root: 'runs' is relative, and a submitted job runs in a temporary copy" in relative.stdout

    absent = cluster.submit(*run, inputs[0], "--events.paths=[data/log.csv]", "--model.base=../models/base")
    assert absent.returncode != 0
    assert "events.paths: " in absent.stdout and "data/log.csv" in absent.stdout
    assert "model.base: there is no folder ../models/base" in absent.stdout
    assert "Ray's copy of the working directory" in absent.stdout


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "0" * 64])
def test_without_the_token_a_job_is_refused(cluster: Cluster, token: str | None) -> None:
    trust = (
        {"RAY_AUTH_MODE": "disabled"}
        if token is None
        else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    )
    refused = cluster.submit("jobs.run", "--help", environment=clean_environment() | trust)
    assert refused.returncode != 0
    assert "token" in refused.stdout.lower() or "unauthorized" in refused.stdout.lower()
    assert "usage:" not in refused.stdout
