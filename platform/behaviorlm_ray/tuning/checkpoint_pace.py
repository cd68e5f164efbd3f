"""How often checkpoints are made: every so many steps, or as often as lets failures cost least."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from behaviorlm_ray.tuning.config import TuningExecution


def steps_between(step_seconds: float, checkpoint_seconds: float, failure_seconds: float) -> int:
    """Steps from one checkpoint to the next, at least one, so that checkpoints and lost steps together cost least.

    Young's rule (Young 1974, A first order approximation to the optimum checkpoint interval): an interval of
    sqrt(2 x what a checkpoint holds up x time between failures).
    """
    interval = math.sqrt(2 * checkpoint_seconds * failure_seconds)
    return max(1, round(interval / max(step_seconds, 1e-9)))


class CheckpointPace:
    """After which step the next checkpoint is due. State: that step, and since when steps have been timed.

    Where the rule is Young's, the first is due after one step of this start, which tells what a checkpoint costs.
    """

    def __init__(self, execution: TuningExecution, first: int, device: torch.device) -> None:
        """first: steps done before this start; device: where tensors for collectives lie."""
        self._every, self._failure_seconds = execution.checkpoint_every_steps, execution.failure_every_seconds
        self._device = device
        self._due = self._following(first) if self._every else first + 1
        self._timed_from, self._since = first, time.monotonic()

    def is_due(self, steps: int) -> bool:
        """Whether there is to be a checkpoint after so many steps; alike on all workers."""
        return steps >= self._due

    @contextmanager
    def timed(self, steps: int) -> Iterator[None]:
        """Around all that holds up training for a checkpoint after so many steps; collective."""
        begun = time.monotonic()
        yield
        ended = time.monotonic()
        if self._every:
            self._due = self._following(steps)
        else:
            step_seconds = (begun - self._since) / max(1, steps - self._timed_from)
            self._due = steps + self._agreed(
                steps_between(step_seconds, ended - begun, self._failure_seconds)
            )
        self._timed_from, self._since = steps, ended

    def _following(self, steps: int) -> int:
        assert self._every is not None
        return (steps // self._every + 1) * self._every

    def _agreed(self, steps: int) -> int:
        """Worker 0's times decide."""
        told = torch.tensor([steps], dtype=torch.int64, device=self._device)
        dist.broadcast(told, src=0)
        return int(told.item())
