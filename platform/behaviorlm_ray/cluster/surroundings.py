"""What around a job keeps Ray from starting or being reached, looked at without Ray: one line with a remedy each."""

import os
import shutil
import socket
from datetime import datetime
from pathlib import Path

from behaviorlm.errors import ClusterError, ConfigError

SHARED_MEMORY = Path("/dev/shm")
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
FREE_BYTES = 100 * 2**20
"""What Ray's folder needs for logs and sockets, without objects (our choice)."""
ANSWER_SECONDS = 5.0
"""How long a machine may take to accept a connection."""

START_HERE = "unset RAY_ADDRESS to start Ray on this machine"


def ray_address() -> str:
    """The cluster that RAY_ADDRESS names: `local` for one of the job's own, `auto`, or host:port.

    Raises ConfigError for anything else.
    """
    address = (os.environ.get("RAY_ADDRESS") or "local").strip()
    if address in ("local", "auto"):
        return address
    scheme, separator, rest = address.partition("://")
    if separator:
        host = rest.split("/")[0].rpartition(":")[0] or rest.strip("/") or "HEAD"
        what = {
            "ray": "an address of Ray Client, through which neither Ray Data nor Ray Train works as a job needs it",
            "http": "the address of a dashboard, which takes submitted jobs",
            "https": "the address of a dashboard, which takes submitted jobs",
        }.get(scheme, f"no address of a cluster ({scheme}://)")
        raise ConfigError(
            f"RAY_ADDRESS={address} is {what}: submit this one to it (`ray job submit --address http://HOST:8265`, "
            f"docs/cluster.md), or on a machine of the cluster set RAY_ADDRESS={host}:6379, or {START_HERE}"
        )
    host, _, port = address.rpartition(":")
    if not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"RAY_ADDRESS={address} is no address: write host:port, as {host or address}:6379, or {START_HERE}"
        )
    return address


def check_machine() -> None:
    """Whether a Ray of the job's own can start here. Raises ClusterError."""
    folder = ray_folder()
    there = next(each for each in [folder, *folder.parents] if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ClusterError(
            f"Ray cannot start: {there} is no folder that this user may write into; set RAY_TMPDIR to one"
        )
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        raise ClusterError(f"Ray cannot start: {there} is read-only; set RAY_TMPDIR to another folder")
    longest = len(os.fsencode(folder / _session() / "sockets" / "plasma_store"))
    if longest > SOCKET_PATH_BYTES:
        raise ClusterError(
            f"Ray cannot start: the path of its sockets below {folder} has {longest} bytes, and the system allows "
            f"{SOCKET_PATH_BYTES}; set RAY_TMPDIR to a folder whose path is {longest - SOCKET_PATH_BYTES} or more "
            "bytes shorter, such as /tmp"
        )
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        raise ClusterError(
            f"Ray cannot start: {free / 2**20:.0f} MiB are free on the disk of {there}, and its logs need "
            f"{FREE_BYTES / 2**20:.0f}; free some, or set RAY_TMPDIR to a folder on another disk"
        )
    if not SHARED_MEMORY.is_dir():
        raise ClusterError(
            f"Ray cannot start: there is no {SHARED_MEMORY}, in which it keeps objects; mount it (docker run "
            "--shm-size=4g; on Kubernetes a volume `emptyDir: {medium: Memory}`)"
        )


def ray_folder() -> Path:
    """Where a Ray that starts here keeps sockets and logs."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp").absolute() / "ray"


def check_reached(address: str) -> None:
    """Whether somebody listens at host:port. Raises ClusterError within a few seconds."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except socket.gaierror:
        raise ClusterError(
            f"RAY_ADDRESS={address}: there is no machine {host!r} in this network; correct it, or {START_HERE}"
        ) from None
    except OSError as error:
        said = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray listens there ({said}); does the cluster run (`ray status`), and does a "
            f"firewall let port {port} through? Correct it, or {START_HERE}"
        ) from None


def _session() -> str:
    """A folder of a session as Ray calls it."""
    return f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
