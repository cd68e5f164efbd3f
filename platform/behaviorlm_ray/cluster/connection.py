"""Connecting to Ray: the cluster a job was submitted to, or one of its own on this machine."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from behaviorlm.errors import ClusterError, ConfigError
from behaviorlm_ray.cluster.asking import authentication_problem, check_served
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.cluster.signals import signal_kept
from behaviorlm_ray.cluster.surroundings import (
    START_HERE,
    check_machine,
    check_reached,
    ray_address,
    ray_folder,
)
from behaviorlm_ray.cluster.waiting import telling_what_is_waited_for
from behaviorlm_ray.console.command_line import NEW_OBJECTS
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.storage.full_disk import is_disk_full

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
HUB_VARIABLES = ("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE")
"""What this process knows of the model hub, and workers on other machines must know to load the same base."""


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
            make_room()
            ray.shutdown()
        if is_ours and not was_told:
            os.environ.pop(WATCHER, None)  # the next connection of this process may be to machines that go


def connect(*, allow_unauthenticated: bool = False) -> bool:
    """Connect to the cluster named by RAY_ADDRESS (as `ray job submit` sets it), else start one here.

    Returns whether it did: a process that is connected already stays so, and False says that others use that Ray.
    Never attaches to a cluster that was not named, as a bare `ray.init()` may: it could be somebody else's. The
    dashboard is on: Ray Train and Ray Tune ask it for the state of their workers, and a sweep hangs without it.
    Workers get HUB_VARIABLES as they are here. Raises ConfigError for a cluster that other machines reach and that
    asks for no token, unless that is allowed, and for a RAY_ADDRESS that is none; ClusterError, within a minute, for a
    cluster that does not answer and a machine on which Ray does not start.
    """
    if ray.is_initialized():
        return False
    address = _resolved(ray_address())
    if address == "local":
        check_machine()
    else:
        check_reached(address)
        check_served(address)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if address == "local":
        options["include_dashboard"] = True
        # this machine gets no notice of preemption, and each tuning would start a process that waits for one
        os.environ.setdefault(WATCHER, "0")
    options["runtime_env"] = {"worker_process_setup_hook": _worker_set_up()}
    try:
        with signal_kept(signal.SIGTERM):  # Ray would make it exit without a word
            ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING, **options)
    except Exception as error:  # of many kinds, with no common parent
        raise ClusterError(start_problem(error, address)) from error
    if address == "local":
        return True
    reached = ray.get_runtime_context().gcs_address
    problem = None if allow_unauthenticated else authentication_problem(reached)
    if problem:
        ray.shutdown()
        raise ConfigError(problem)
    screen().says(f"connected to the Ray cluster at {reached}")
    return True


def start_problem(error: Exception, address: str) -> str:
    """What Ray said as it did not start or was not reached, in one line with what to do."""
    said = " ".join(str(error).split()) or type(error).__name__
    if "ersion mismatch" in said:
        return (
            f"the cluster at {address} and this job differ ({said}): run the job with what the cluster runs "
            "(docs/cluster.md)"
        )
    if is_disk_full(error):
        return f"Ray cannot start: a disk is full ({said}); free some, or set RAY_TMPDIR to a folder on another disk"
    if "/dev/shm" in said:
        return f"Ray cannot start: {said} Give it more shared memory (docker run --shm-size=4g)"
    if address == "local":
        return (
            f"Ray does not start on this machine ({said}); the usual causes are a limit of processes, files or memory "
            "(ulimit -a), taken ports and a firewall on this machine, and what it wrote is in "
            f"{ray_folder()}/session_latest/logs"
        )
    return (
        f"the Ray cluster at {address} cannot be used ({said}); look at it with `ray status`, or {START_HERE}"
    )


def unused_gpus(resources: Mapping[str, float], use_gpu: bool) -> str | None:
    """A line on GPUs that a cluster with these resources has and a run leaves idle; None if there are none."""
    count = int(resources.get("GPU", 0))
    if use_gpu or count == 0:
        return None
    have = "a GPU" if count == 1 else f"{count} GPUs"
    return f"the cluster has {have} that this run does not use: --execution.tuning.use_gpu=true uses them"


def _resolved(address: str) -> str:
    """`auto` as the address of the Ray that runs on this machine. Raises ClusterError where none does."""
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
    except ConnectionError as error:
        raise ClusterError(
            f"RAY_ADDRESS=auto: no one Ray runs on this machine ({' '.join(str(error).split())}); name it by "
            f"host:port, or {START_HERE}"
        ) from error
    return found or "local"


def _worker_set_up() -> Callable[[], None]:
    """What every worker does first. By a function, as Ray writes the `env_vars` of a runtime environment into logs."""
    hub = {name: os.environ[name] for name in HUB_VARIABLES if name in os.environ}

    def set_up() -> None:
        gc.set_threshold(NEW_OBJECTS)
        os.environ.update(hub)
        # Ray Train asks for states at this address; without it, it fails where several Rays run
        os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)

    return set_up
