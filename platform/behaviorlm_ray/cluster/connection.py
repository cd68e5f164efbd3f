"""Connecting to Ray: the cluster a job was submitted to, or one of its own on this machine."""

import ipaddress
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from behaviorlm.errors import ClusterError, ConfigError
from behaviorlm_ray.cluster.signals import signal_kept
from behaviorlm_ray.cluster.waiting import telling_what_is_waited_for
from behaviorlm_ray.console.screen import screen

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
HUB_VARIABLES = ("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE")
"""What this process knows of the model hub, and workers on other machines must know to load the same base."""
ASKING_SECONDS = 60.0
"""How long a head may take to serve or to refuse a caller without a token."""
ASK_WITHOUT_TOKEN = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError

try:
    GcsClient(address=sys.argv[1])
    print("served")
except AuthenticationError:
    print("refused")
"""


@contextmanager
def connected(*, allow_unauthenticated: bool = False) -> Iterator[None]:
    """A connection for the block: that of `connect`, ended after the block if it was made for it.

    Meanwhile the job says what it waits for. What workers printed is forwarded before the block is left, so what is
    printed after it comes last.
    """
    was_told = WATCHER in os.environ
    is_ours = connect(allow_unauthenticated=allow_unauthenticated)
    try:
        with telling_what_is_waited_for(screen().says):
            yield
    finally:
        if is_ours:
            ray.shutdown()
        if is_ours and not was_told:
            os.environ.pop(WATCHER, None)  # the next connection of this process may be to machines that go


def connect(*, allow_unauthenticated: bool = False) -> bool:
    """Connect to the cluster named by RAY_ADDRESS (as `ray job submit` sets it), else start one here.

    Returns whether it did: a process that is connected already stays so, and False says that others use that Ray.
    Never attaches to a cluster that was not named, as a bare `ray.init()` may: it could be somebody else's. The
    dashboard is on: Ray Train and Ray Tune ask it for the state of their workers, and a sweep hangs without it.
    Workers get HUB_VARIABLES as they are here. Raises ConfigError for a cluster that other machines reach and that
    asks for no token, unless that is allowed.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") or "local"
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if address == "local":
        options["include_dashboard"] = True
        # this machine gets no notice of preemption, and each tuning would start a process that waits for one
        os.environ.setdefault(WATCHER, "0")
    options["runtime_env"] = {"worker_process_setup_hook": _worker_set_up()}
    with signal_kept(signal.SIGTERM):  # Ray would make it exit without a word
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING, **options)
    if address == "local":
        return True
    reached = ray.get_runtime_context().gcs_address
    problem = None if allow_unauthenticated else authentication_problem(reached)
    if problem:
        ray.shutdown()
        raise ConfigError(problem)
    screen().says(f"connected to the Ray cluster at {reached}")
    return True


def authentication_problem(address: str) -> str | None:
    """What is wrong with the cluster at `address` (host:port): others reach it, and it serves who has no token."""
    if is_loopback(address):
        return None
    remedy = (
        "Start it with RAY_AUTH_MODE=token (docs/cluster.md), or say that this network is safe with "
        "--execution.allow_unauthenticated_cluster=true"
    )
    try:
        if asks_for_token(address):
            return None
    except ClusterError as error:
        return f"{error}. {remedy}"
    return (
        f"the Ray cluster at {address} can be reached from other machines and asks for no token: whoever reaches it "
        f"can run code on it. {remedy}"
    )


def asks_for_token(address: str) -> bool:
    """Whether the head at `address` (host:port) refuses a caller without a token.

    It is asked, by a process of its own: that this process has a token says nothing about the cluster, and Ray reads
    only once in a process whether it has one. Raises ClusterError where the head neither serves nor refuses.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK_WITHOUT_TOKEN, address],
            env=environment | {"RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=ASKING_SECONDS,
            check=False,
        )
        answer = asked.stdout.strip().rpartition("\n")[2]
        said = asked.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        answer, said = "", f"no answer for {ASKING_SECONDS:.0f} s"
    if answer not in ("served", "refused"):
        raise ClusterError(
            f"whether the Ray cluster at {address} asks for a token could not be found out ({said})"
        )
    return answer == "refused"


def is_loopback(address: str) -> bool:
    """Whether an address (host:port) is reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unused_gpus(resources: Mapping[str, float], use_gpu: bool) -> str | None:
    """A line on GPUs that a cluster with these resources has and a run leaves idle; None if there are none."""
    count = int(resources.get("GPU", 0))
    if use_gpu or count == 0:
        return None
    have = "a GPU" if count == 1 else f"{count} GPUs"
    return f"the cluster has {have} that this run does not use: --execution.tuning.use_gpu=true uses them"


def _worker_set_up() -> Callable[[], None]:
    """What every worker does first. By a function, as Ray writes the `env_vars` of a runtime environment into logs."""
    hub = {name: os.environ[name] for name in HUB_VARIABLES if name in os.environ}

    def set_up() -> None:
        os.environ.update(hub)
        # Ray Train asks for states at this address; without it, it fails where several Rays run
        os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)

    return set_up
