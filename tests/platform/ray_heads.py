"""Ray heads of their own, as `ray start --head` makes them, that ask for a token."""

import secrets
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.local_cluster import MARK, RAY, ROOT, clean_environment, end_marked, free_ports


@dataclass(frozen=True)
class RayHead:
    """A running head: its address (host:port), its dashboard's port, an environment that is served by it, and its
    folder, with its logs.
    """

    address: str
    dashboard_port: str
    environment: dict[str, str]
    folder: Path


@contextmanager
def ray_head(cpus: int = 1, *, host: str = "127.0.0.1") -> Iterator[RayHead]:
    """A head for the block."""
    # Short, because the path of a Unix socket below it may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="blm-", dir="/tmp"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment["OMP_NUM_THREADS"] = "1"
    mark = uuid.uuid4().hex
    gcs, dashboard, client, agent, grpc, runtime, metrics = free_ports(7)
    command = [str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
    command += [f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}"]
    command += [f"--node-ip-address={host}", f"--temp-dir={folder}", "--object-store-memory=300000000"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "--block" in line:  # the last thing it says, when everything has started
                break
        assert process.poll() is None, "".join(printed)
        yield RayHead(f"{host}:{gcs}", str(dashboard), environment, folder)
    finally:
        end_marked(mark)
        shutil.rmtree(folder, ignore_errors=True)
