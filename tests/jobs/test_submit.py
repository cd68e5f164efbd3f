"""Jobs submitted to a cluster that asks for a token: `ray start --head` and `ray job submit`, as in the README."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.local_cluster import RAY, ROOT, clean_environment
from tests.jobs.demo_inputs import demo_inputs
from tests.platform.ray_heads import ray_head

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]  # Ray's start-up takes long on a busy machine


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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_head(cpus=3) as head:
        yield Cluster(f"http://127.0.0.1:{head.dashboard_port}", head.environment)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of the demo's configuration: absolute inputs of our own, and few steps."""
    settings = {
        "a_tuning.max_steps": 2,
        "b_tuning.max_steps": 2,
        "evaluation.arms": ["ab_tuned"],
        "evaluation.max_samples": 40,
        "evaluation.max_validation_samples": 20,
        "evaluation.bootstrap_samples": 50,
        "execution.scoring_actors": 1,
    }
    return demo_inputs(tmp_path_factory.mktemp("submitted"), settings)


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
