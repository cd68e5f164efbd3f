"""Connecting to Ray: the cluster a job was submitted to, or one of its own on this machine."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from behaviorlm.errors import ConfigError


@contextmanager
def connected() -> Iterator[None]:
    """A connection for the block: that of `connect`, ended after the block if it was made for it.

    What workers printed is forwarded before the block is left, so what is printed after it comes last.
    """
    is_ours = connect()
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


def connect() -> bool:
    """Connect to the cluster named by RAY_ADDRESS (as `ray job submit` sets it), else start one here.

    Returns whether it did: a process that is connected already stays so, and False says that others use that Ray.
    Never attaches to a cluster that was not named. The dashboard is on: Ray Train and Ray Tune ask it for the state of
    their workers, and a sweep hangs without it.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") or "local"
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    options: dict[str, Any] = {} if address != "local" else {"include_dashboard": True}
    options["runtime_env"] = {"worker_process_setup_hook": _name_cluster}
    ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING, **options)
    if address != "local":
        print(f"connected to the Ray cluster at {address}")
    return True


def _name_cluster() -> None:
    """In every worker: Ray Train asks for states at this address; without it, it fails where several Rays run."""
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)


def is_submitted_job() -> bool:
    """Whether this process was started by `ray job submit`, in Ray's copy of the working directory."""
    return bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def check_storage_root(root: str) -> None:
    """Refuse a relative folder inside a submitted job: it would lie in Ray's temporary copy of the code."""
    if "://" not in root and is_submitted_job() and not Path(root).expanduser().is_absolute():
        raise ConfigError(
            f"storage.root: {root!r} is relative, and a submitted job runs in a temporary copy of the code that Ray "
            "removes: give s3://bucket/prefix or an absolute folder that every node reaches, --storage.root=/…"
        )


def check_local_root(root: str) -> None:
    """Refuse S3 where a job still needs a folder, and what `check_storage_root` refuses."""
    if root.startswith("s3:/"):
        raise ConfigError(
            f"{root!r}: this job keeps files of its own in a folder; give one that every node reaches"
        )
    check_storage_root(root)
