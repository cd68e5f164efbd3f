"""Ray heads of their own, as `ray start --head` makes them, with and without a token."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class RayHead:
    """A running head: its address (host:port), its dashboard's port, an environment that is served by it."""

    address: str
    dashboard_port: str
    environment: dict[str, str]


@contextmanager
def ray_head(cpus: int = 1, *, host: str = "127.0.0.1", has_token: bool) -> Iterator[RayHead]:
    """A head for the block."""
    # Short, because the path of a Unix socket below it may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="blm-", dir="/tmp"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    trust = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment = clean_environment() | (trust if has_token else {"RAY_AUTH_MODE": "disabled"})
    gcs, dashboard, client, agent, grpc, runtime, metrics = free_ports(7)
    command = [str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
    command += [f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}"]
    command += [f"--node-ip-address={host}", f"--temp-dir={folder}", "--object-store-memory=300000000"]
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
        yield RayHead(f"{host}:{gcs}", dashboard, environment)
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


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
