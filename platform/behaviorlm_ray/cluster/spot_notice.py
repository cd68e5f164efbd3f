"""On an EC2 spot node: tells Ray when the machine is about to be taken back, so that tuning saves what it has.

    python -m behaviorlm_ray.cluster.spot_notice

EC2 gives notice two minutes before, in the instance's metadata; Ray itself does not look there. The node is then
drained: nothing new is placed on it, and Ray Train hands the notice to its workers. A call that fails is repeated as
long as the machine lives; the exit status is 1 if none went through.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

METADATA = "http://169.254.169.254"
POLL_SECONDS = 5.0
TOKEN_SECONDS = 300
REQUEST_SECONDS = 5.0
CALL_SECONDS = 30.0
RAY = Path(sys.executable).with_name("ray")


def watch(drain: Callable[[int], bool], metadata: str = METADATA, poll_seconds: float = POLL_SECONDS) -> bool:
    """Wait for the notice, then call drain(seconds left) until it says that it is done or the time is up.

    Returns whether it was done. The interval between calls is that of the polls.
    """
    while (ends := notice(metadata)) is None:
        time.sleep(poll_seconds)
    while True:
        left = max(0.0, ends - time.time())
        if drain(int(left)):
            return True
        if left <= poll_seconds:
            return False
        time.sleep(poll_seconds)


def notice(metadata: str = METADATA) -> float | None:
    """When this instance will be stopped or terminated, in seconds since the epoch; None without a notice."""
    try:
        token = _ask(
            f"{metadata}/latest/api/token",
            "PUT",
            {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
        )
        told = _ask(
            f"{metadata}/latest/meta-data/spot/instance-action", "GET", {"X-aws-ec2-metadata-token": token}
        )
        ends = datetime.strptime(json.loads(told)["time"], "%Y-%m-%dT%H:%M:%SZ")
        return ends.replace(tzinfo=UTC).timestamp()
    except (OSError, ValueError, KeyError, TypeError):
        return None  # 404 until there is a notice; anything else may pass, and the next poll asks again


def drain_this_node(seconds_left: int, ray: Path = RAY) -> bool:
    """Tell Ray that this node goes in so many seconds because it is preempted. Returns whether Ray took it."""
    command = [str(ray), "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "EC2 takes the spot instance back"]
    command += ["--deadline-remaining-seconds", str(seconds_left)]
    try:  # Ray's own call has no time limit, and a head that is just being replaced does not answer
        subprocess.run(command, check=True, timeout=CALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"not drained, {seconds_left} s left: {error}", file=sys.stderr, flush=True)
        return False
    return True


def _ask(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    sys.exit(0 if watch(drain_this_node) else 1)
