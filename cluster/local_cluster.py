"""Ray's real autoscaler on this machine, with cluster/local.yaml: starts a head, and ends everything that came of it.

    python -m cluster.local_cluster

Nodes that the autoscaler adds are further raylets here. Token authentication is on, with a token of its own.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "cluster" / "local.yaml"
RAY = Path(sys.executable).with_name("ray")
MARK = "BEHAVIORLM_LOCAL_CLUSTER"
START_SECONDS = 180.0


@dataclass(frozen=True)
class LocalCluster:
    """A running head: the address of its dashboard, that of its GCS, and an environment that holds its token."""

    dashboard: str
    gcs: str
    environment: dict[str, str]


@contextmanager
def local_cluster(
    config: Path = CONFIG, variables: Mapping[str, str] | None = None
) -> Iterator[LocalCluster]:
    """A head with the autoscaler; on leaving, it and every process that it started end.

    To be used in the main thread. variables: further environment variables of the head and of its nodes. Raises
    RuntimeError, with what Ray said, if the head does not start.
    """
    # Short, because the path of a Unix socket below it may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="blm-", dir="/tmp"))
    mark = uuid.uuid4().hex
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    gcs, dashboard, client, agent, grpc, runtime, metrics = free_ports(7)
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    head = settings["provider"]["head_node_id"]
    settings["provider"] |= {"gcs_address": f"127.0.0.1:{gcs}", "folder": str(folder)}
    written = folder / "autoscaler.yaml"
    written.write_text(yaml.safe_dump(settings), encoding="utf-8")
    client_environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment = client_environment | {
        MARK: mark,
        "RAY_FAKE_CLUSTER": "1",
        "PYTHONPATH": _with_provider(client_environment.get("PYTHONPATH", "")),
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": head,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head,
        "RAY_NODE_TYPE_NAME": settings["head_node_type"],
        **(variables or {}),
    }
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=0", "--num-gpus=0"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
    command += [f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000"]
    command += [f"--autoscaling-config={written}"]
    log = folder / "head.log"
    before = signal.signal(signal.SIGTERM, _exit)  # ended by it, too, this must end what it started
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )
        _wait_until_started(process, log)
        yield LocalCluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", client_environment)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_marked(mark)
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def end_marked(mark: str) -> None:
    """End every process whose environment holds the mark, parents and children alike, and nothing else."""
    for patience in (10.0, 5.0, 5.0):
        found = [process for process in psutil.process_iter() if _is_marked(process, mark)]
        for process in found:
            with suppress(psutil.Error):
                process.terminate() if patience == 10.0 else process.kill()
        psutil.wait_procs(found, timeout=patience)


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "--block" not in log.read_text(
        errors="replace"
    ):  # the last thing that it says, when all has started
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the head did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.2)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def clean_environment() -> dict[str, str]:
    """Ours, without anything that tells Ray where another cluster is or how to be trusted by it."""
    told = ("RAY_ADDRESS", "RAY_API_SERVER", "RAY_AUTH", "RAY_JOB")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


def _with_provider(path: str) -> str:
    """PYTHONPATH by which Ray's monitor finds the module that cluster/local.yaml names."""
    return os.pathsep.join(filter(None, [str(CONFIG.parent), path]))


def main() -> None:
    """Start one and wait for Ctrl-C."""
    with local_cluster() as cluster, suppress(KeyboardInterrupt):
        token = cluster.environment["RAY_AUTH_TOKEN_PATH"]
        print(f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}")
        print(f"ray job submit --address {cluster.dashboard} --working-dir . …  (Ctrl-C ends the cluster)")
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
