"""Nodes for Ray's autoscaler that are processes on this machine, with the files of each in a folder of its own.

Named in cluster/local.yaml; `cluster/local_cluster.py` makes it importable for Ray's monitor. Ray's own fake provider
puts all nodes into one folder, where a node that joins unpacks a job's code anew while others import from it.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

RAY = Path(sys.executable).with_name("ray")
DRAIN_SECONDS, STOP_SECONDS = 3.0, 10.0


class LocalNodeProvider(FakeMultiNodeProvider):
    """Ray's fake provider, its nodes started by `ray start`. The settings name a `folder` (short) and `gcs_address`."""

    def _create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        with self.lock:
            name = self._next_hex_node_id()
            folder = Path(self.provider_config["folder"]) / f"n{self._next_node_id}"
            folder.mkdir()
            rest = dict(resources)
            command = [str(RAY), "start", "--block", f"--address={self.provider_config['gcs_address']}"]
            command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
            command += [f"--num-cpus={rest.pop('CPU', 0):g}", f"--num-gpus={rest.pop('GPU', 0):g}"]
            if memory := rest.pop("object_store_memory", None):
                command.append(f"--object-store-memory={memory:.0f}")
            # Any free port: on one machine, nodes would want the same ones.
            command += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
            environment = os.environ | {
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": name,
                "RAY_CLOUD_INSTANCE_ID": name,
                "RAY_NODE_TYPE_NAME": tags[TAG_RAY_USER_NODE_TYPE],
                "RAY_OVERRIDE_RESOURCES": json.dumps(rest),
                "RAY_OVERRIDE_LABELS": json.dumps(labels),
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": f"{DRAIN_SECONDS:g}",
            }
            with (folder / "start.log").open("wb") as log:
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            named = {
                TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                TAG_RAY_NODE_NAME: name,
                TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            }
            self._nodes[name] = {"tags": named | tags, "node": process}  # type: ignore[dict-item]

    def _terminate_node(self, node: dict[str, Any]) -> None:
        process: subprocess.Popen[bytes] = node["node"]
        process.terminate()  # with --block it ends all that it started
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
            process.kill()
