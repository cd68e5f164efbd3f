"""What is said and done when workers of a tuning fail. Ray Train's controller imports it: nothing heavy is imported."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from ray.train import UserCallback

from behaviorlm.errors import ClusterError
from behaviorlm_ray.cluster.failures import causes, memory_problem


class WorkerOutOfMemory(ClusterError):
    """A worker of a tuning ran out of memory."""


class TellOfFailures(UserCallback):
    """Says, from Ray Train's controller, that workers have ended; raises WorkerOutOfMemory for one without memory.

    Ray Train tries again what workers raise, but not what its callbacks raise.
    """

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """See the class."""
        for rank, error in worker_exceptions.items():
            problem = memory_problem(error)
            if problem is not None:
                raise WorkerOutOfMemory(f"tuning ran out of memory on worker {rank} ({problem})")
        if worker_exceptions:
            announce(_told(worker_exceptions))


def announce(message: str) -> None:
    """Tell the user; Ray forwards it to the driver. (Ray Train shows what is printed by `print` twice.)"""
    sys.stdout.write(f"tuning: {message}\n")
    sys.stdout.flush()


def _told(worker_exceptions: Mapping[int, Exception]) -> str:
    first, *others = sorted(worker_exceptions)
    *_, deepest = causes(worker_exceptions[first])
    lines = [line.strip() for line in str(deepest).splitlines() if line.strip()] or [type(deepest).__name__]
    reason = lines[-1] if any("Traceback" in line for line in lines) else lines[0]
    reason = re.sub(r"^\[/[^\]]*\] ", "", reason)  # where in a library's source; what it says comes after
    who = f"worker {first} and {len(others)} more have ended" if others else f"worker {first} has ended"
    return (
        f"{who}; tried again from the newest checkpoint, as often as execution.tuning.max_failures allows "
        f"({reason[:200]})"
    )
