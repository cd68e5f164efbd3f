"""A Ray cluster of several nodes on this machine, and how its parts are killed."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

NODES = 2
NOTICE_SECONDS = 6
TITLES = {"train_worker": "ray::RayTrainWorker", "scoring_worker": "ray::MapBatches(_score_batch)"}
FIND_SECONDS = 20.0
OBJECT_STORE_BYTES = 200 * 1024**2


@dataclass
class Machines:
    """A head without CPUs and `NODES` nodes with one CPU each. State: the nodes that live."""

    cluster: Cluster
    nodes: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def complete(self) -> None:
        """Add nodes until there are as many as there should be. In the main thread: Ray sets a signal handler."""
        with self.lock:
            self.nodes = [
                node for node in self.nodes if _lives(_raylet(node))
            ]  # a drained one leaves by itself
            while len(self.nodes) < NODES:
                node = self.cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
                self.nodes.append(node)

    def kill_process(self, kind: str, chosen: int) -> list[int]:
        """Kill one of Ray's workers of a kind. Returns the process ids of what is certainly dead; maybe none."""
        deadline = time.monotonic() + FIND_SECONDS
        while time.monotonic() < deadline:
            found = sorted(self._processes(TITLES[kind]))
            if found:
                return kill(found[chosen % len(found)])
            time.sleep(0.05)
        return []

    def choose_node(self, chosen: int) -> Any:
        """One of the nodes that live now."""
        with self.lock:
            return self.nodes[chosen % len(self.nodes)]

    def kill_node(self, node: Any, had_notice: bool = False) -> list[int]:
        """Kill a node's raylet, and with it all that runs there. Returns its process id if that is what it died of.

        Nothing for a raylet that was dead before; had_notice: one that has left by itself counts too, as it was
        the notice that drained it.
        """
        with self.lock:
            if node in self.nodes:
                self.nodes.remove(node)
            raylet = _raylet(node)
            lived = _lives(raylet)
            if node in self.cluster.worker_nodes:
                self.cluster.remove_node(node, allow_graceful=False)
            return [raylet] if (lived or had_notice) and not _lives(raylet) else []

    def give_notice(self, node: Any) -> None:
        """Tell a node that it will be taken back in `NOTICE_SECONDS`.

        Raises RuntimeError if that is refused, or the node was dead before.
        """
        if not _lives(_raylet(node)):
            raise RuntimeError("the node was dead before the notice")
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
        client = ray._raylet.GcsClient(address=self.address)  # type: ignore[attr-defined]
        deadline = int((time.time() + NOTICE_SECONDS) * 1000)
        accepted, problem = client.drain_node(node.node_id, reason, "taken back", deadline)
        if not accepted:
            raise RuntimeError(f"the notice was refused: {problem}")

    def _processes(self, title: str) -> Iterator[int]:
        for node in self.nodes:
            with suppress(psutil.Error):
                for child in psutil.Process(_raylet(node)).children():
                    with suppress(psutil.Error):
                        if child.cmdline() and child.cmdline()[0].startswith(title):
                            yield child.pid


def kill(process: int) -> list[int]:
    """SIGKILL a process. Returns it once it is dead; nothing if it was not alive."""
    if not _lives(process):
        return []
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return []
    deadline = time.monotonic() + 10
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [] if _lives(process) else [process]


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """The cluster for the block; Ray's files are in `folder`, whose path must be short."""
    arguments: dict[str, Any] = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_port": _free_port(),
        "temp_dir": str(folder),
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    made = Machines(Cluster(initialize_head=True, head_node_args=arguments))
    try:
        made.complete()
        yield made
    finally:
        made.cluster.shutdown()


def _raylet(node: Any) -> int:
    return int(node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid)


def _lives(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
