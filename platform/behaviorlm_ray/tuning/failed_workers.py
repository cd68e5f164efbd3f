"""Full memory ends a tuning at once. Nothing heavy is imported here: Ray Train's controller imports it."""

from typing import Any

from ray.train import UserCallback

from behaviorlm.errors import ClusterError
from behaviorlm_ray.cluster.failures import memory_problem


class WorkerOutOfMemory(ClusterError):
    """A worker of a tuning ran out of memory."""


class EndWhenOutOfMemory(UserCallback):
    """Raises, in Ray Train's controller, WorkerOutOfMemory for a worker that ran out of memory.

    Ray Train tries again what workers raise, but not what its callbacks raise.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """See the class."""
        for rank, error in worker_exceptions.items():
            problem = memory_problem(error)
            if problem is not None:
                raise WorkerOutOfMemory(f"tuning ran out of memory on worker {rank} ({problem})")
