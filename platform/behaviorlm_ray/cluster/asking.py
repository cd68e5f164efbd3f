"""What a Ray cluster answers to a caller. A process of its own asks: it can be ended, and Ray reads its token once."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Mapping

from behaviorlm.errors import ClusterError

ASKING_SECONDS = 40.0
"""How long a head may take to serve or to refuse a caller."""
ASK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError

try:
    GcsClient(address=sys.argv[1])
    print("served")
except AuthenticationError as error:
    print("refused")
    print(error, file=sys.stderr)
"""


def check_served(address: str) -> None:
    """Whether the head at `address` (host:port) serves this process, with its token. Raises ClusterError."""
    answer, said = _asked(address, os.environ)
    if answer == "served":
        return
    if answer == "refused":
        how = (
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH here holds another token than the cluster's"
            if os.environ.get("RAY_AUTH_MODE") == "token"
            else "set RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
        )
        raise ClusterError(
            f"the Ray cluster at {address} asks for a token and does not take this one: {how} (docs/cluster.md)"
        )
    raise ClusterError(
        f"RAY_ADDRESS={address}: what listens there does not answer as the head of a Ray cluster ({said}). It is the "
        "port of the head (6379), not that of the dashboard (8265) or of Ray Client (10001)"
    )


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

    It is asked: that this process has a token says nothing about the cluster. Raises ClusterError where the head
    neither serves nor refuses.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    answer, said = _asked(address, environment | {"RAY_AUTH_MODE": "disabled"})
    if not answer:
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


def _asked(address: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """(`served`, `refused` or nothing, the last line that was said about it)."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK, address],
            env=environment,
            capture_output=True,
            text=True,
            timeout=ASKING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer for {ASKING_SECONDS:.0f} s"
    answer = asked.stdout.strip().rpartition("\n")[2]
    return answer if answer in ("served", "refused") else "", asked.stderr.strip().rpartition("\n")[2]
