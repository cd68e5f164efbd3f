"""Clusters that a job may connect to: those that other machines reach must ask for a token. Asked of real heads."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from behaviorlm.errors import ClusterError
from behaviorlm_ray.cluster import asking as cluster
from behaviorlm_ray.cluster.asking import asks_for_token, authentication_problem, is_loopback
from behaviorlm_ray.cluster.connection import HUB_VARIABLES, unused_gpus
from cluster.local_cluster import clean_environment
from tests.platform.ray_heads import RayHead, ray_head

CONNECT = """
import sys
import ray
from behaviorlm.errors import ClusterError, ConfigError
from behaviorlm_ray.cluster.connection import connect

try:
    connect(allow_unauthenticated="allow" in sys.argv)
    print("connected", ray.is_initialized())
except ConfigError as error:
    print("refused", ray.is_initialized(), error)
except ClusterError as error:
    print("failed", ray.is_initialized(), error)
"""
PRETEND = """
import json, sys
from ray._raylet import GcsClient

client = GcsClient(address=sys.argv[1])
known = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster"))
told = json.dumps(known | {"ray_version": "2.9.3", "python_version": "3.10.1"}).encode()
client.internal_kv_put(b"CLUSTER_METADATA", told, True, namespace=b"cluster")
"""
A_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}


def connected_by_a_job(address: str, environment: dict[str, str], *arguments: str) -> str:
    """What `connect` makes of a cluster in a process of its own, whose mode of authentication Ray has not read yet."""
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    run = subprocess.run(
        [sys.executable, "-c", CONNECT, *arguments],
        env=environment | {"RAY_ADDRESS": address, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def pretend_other_versions(head: RayHead) -> None:
    """Let the head say that it runs an older Ray and another Python."""
    subprocess.run([sys.executable, "-c", PRETEND, head.address], env=head.environment, check=True)


@pytest.fixture
def open_address(ray_cluster: None) -> str:
    """The address of the session's Ray, which asks for no token, as other machines would reach it."""
    address: str = ray.get_runtime_context().gcs_address
    if is_loopback(address):
        pytest.skip("this machine has no address but that of itself")
    return address


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "disabled"}, A_TOKEN], ids=["no token", "a token"])
def test_an_open_cluster_that_others_reach_is_refused_whatever_the_job_knows(
    open_address: str, environment: dict[str, str]
) -> None:
    said = connected_by_a_job(open_address, clean_environment() | environment)
    assert said.startswith(
        f"refused False the Ray cluster at {open_address} can be reached from other machines"
    )
    assert "RAY_AUTH_MODE=token" in said and "--execution.allow_unauthenticated_cluster=true" in said


def test_an_open_cluster_is_used_where_that_is_allowed(open_address: str) -> None:
    said = connected_by_a_job(open_address, clean_environment() | A_TOKEN, "allow")
    assert said.endswith("connected True\n")


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_used_by_who_has_it() -> None:
    with ray_head(host=ray.util.get_node_ip_address()) as head:
        assert asks_for_token(head.address)
        assert authentication_problem(head.address) is None
        assert connected_by_a_job(head.address, head.environment).endswith("connected True\n")
        for environment in (
            clean_environment() | {"RAY_AUTH_MODE": "disabled"},
            clean_environment() | A_TOKEN,
        ):
            said = connected_by_a_job(head.address, environment)
            assert said.startswith(f"failed False the Ray cluster at {head.address} asks for a token")
            assert len(said.splitlines()) == 1 and "docs/cluster.md" in said
        pretend_other_versions(head)
        said = connected_by_a_job(head.address, head.environment)
        assert said.startswith(f"failed False the cluster at {head.address} and this job differ")
        assert len(said.splitlines()) == 1 and "Ray: 2.9.3" in said


ASK_A_WORKER = """
import os
import ray
from behaviorlm_ray.cluster.connection import HUB_VARIABLES, connect

connect(allow_unauthenticated=True)
known = ray.remote(lambda: [os.environ.get(name) for name in HUB_VARIABLES])
token, *rest = ray.get(known.remote())
print(rest, token == os.environ["HF_TOKEN"])
"""


def test_workers_know_the_token_of_the_hub_and_no_log_does(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in HUB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    hub = {
        "HF_TOKEN": f"hf_{secrets.token_hex(16)}",
        "HF_ENDPOINT": "http://127.0.0.1:9/hub",
        "HF_HUB_OFFLINE": "1",
    }
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    known = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": path}
    asked = subprocess.run(
        [sys.executable, "-c", ASK_A_WORKER],
        env=clean_environment() | {"RAY_AUTH_MODE": "disabled"} | hub | known,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert asked.stdout.endswith("[None, 'http://127.0.0.1:9/hub', '1'] True\n")
    node: Any = ray._private.worker.global_worker.node
    session = Path(node.get_session_dir_path())
    logs = [path for path in session.rglob("*") if path.is_file() and "logs" in path.parts]
    assert len(logs) > 5
    token = hub["HF_TOKEN"]
    assert not [path for path in logs if token.encode() in path.read_bytes()]
    assert token not in asked.stdout + asked.stderr


def test_a_head_that_does_not_answer_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is one that documents use; nobody has it."""
    monkeypatch.setattr(cluster, "ASKING_SECONDS", 3.0)
    with pytest.raises(ClusterError, match=r"203\.0\.113\.9:6379 asks for a token could not be found out"):
        asks_for_token("203.0.113.9:6379")
    problem = authentication_problem("203.0.113.9:6379")
    assert problem is not None and "--execution.allow_unauthenticated_cluster=true" in problem


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("127.0.0.1:6379", True),
        ("[::1]:6379", True),
        ("localhost:6379", True),
        ("10.0.0.5:6379", False),
        ("ray-head.example:6379", False),
    ],
)
def test_loopback_addresses_are_told_from_others(address: str, alone: bool) -> None:
    assert is_loopback(address) == alone


def test_gpus_that_a_run_leaves_idle_are_told_with_the_key_that_uses_them() -> None:
    assert unused_gpus({"CPU": 8.0}, use_gpu=False) is None
    assert unused_gpus({"CPU": 8.0, "GPU": 4.0}, use_gpu=True) is None
    told = unused_gpus({"CPU": 8.0, "GPU": 4.0}, use_gpu=False)
    assert told is not None and "4 GPUs" in told and "--execution.tuning.use_gpu=true" in told
    assert "a GPU" in str(unused_gpus({"GPU": 1.0}, use_gpu=False))
