"""What a pod's SIGTERM does to a Ray node, as the files for KubeRay count on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

SECONDS = 8
"""How long a node may drain: longer than an idle one takes to end on a busy machine."""


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_drains_a_busy_node_as_preempted_and_ends_an_idle_one_at_once() -> None:
    """What Kubernetes sends to a pod, to the command line that KubeRay runs in it; by the real clock, since Ray's own
    deadline is what is tested.
    """
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    command = (
        f"{Path(sys.executable).with_name('ray')} start --address={cluster.address} --num-cpus=1 --block "
    )
    try:
        ray.init(address=cluster.address)
        client = ray._raylet.GcsClient(address=cluster.address)  # type: ignore[attr-defined]

        @ray.remote(num_cpus=1)
        class Busy:
            def ready(self) -> bool:
                return True

        draining: dict[str, int] = {}
        for busy in (True, False):
            pod = subprocess.Popen(
                ["/bin/bash", "-c", "--", f"ulimit -n 4096; {command}"],
                env={**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(SECONDS)},
            )
            _wait_for_nodes(2)
            actor = Busy.remote() if busy else None  # type: ignore[attr-defined]
            assert actor is None or ray.get(actor.ready.remote())
            told = time.monotonic()
            draining.clear()
            pod.send_signal(signal.SIGTERM)
            while pod.poll() is None:
                draining |= client.get_draining_nodes()
                time.sleep(0.1)
            took = time.monotonic() - told
            assert (took >= SECONDS and len(draining) == 1) if busy else took < SECONDS
            del actor
            _wait_for_nodes(1)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _wait_for_nodes(number: int) -> None:
    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) != number:
        assert time.monotonic() < deadline, ray.nodes()
        time.sleep(0.2)
