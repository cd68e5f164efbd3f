"""Full memory ends a tuning at once. Nothing heavy is imported here: Ray Train's controller imports it."""

from typing import Any

from ray.train import UserCallback

from behaviorlm.errors import ClusterError
from behaviorlm_ray.cluster.failures import memory_problem


class EndWhenOutOfMemory(UserCallback):
    """Raises, in Ray Train's controller, ClusterError for a worker that ran out of memory.

    Ray Train tries again what workers raise, but not what its callbacks raise.
    """

    def __init__(self, max_tokens: int) -> None:
        """max_tokens: of a pack, for the message."""
        self._max_tokens = max_tokens

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """See the class."""
        for rank, error in worker_exceptions.items():
            problem = memory_problem(error)
            if problem is not None:
                raise ClusterError(
                    f"tuning ran out of memory on worker {rank} ({problem}). It would again, so it is not tried again. "
                    f"Lower this tuning's max_tokens ({self._max_tokens}; a_tuning.max_tokens, b_tuning.max_tokens or "
                    "one_stage.max_tokens), set execution.tuning.activation_checkpointing=true, or take larger machines"
                )
