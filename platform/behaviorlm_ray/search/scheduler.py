"""Early stopping: what a rung is, in steps of B-Tuning, and the settings of successive halving (ASHA)."""

import math
from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings


class SchedulerSettings(Settings):
    """Which trials are tuned to the end.

    A rung is a share of a trial's own B-Tuning, each 1/reduction of the next (1/9 and 1/3 with 3 rungs and reduction
    3), rounded up to an optimizer step, after which it is measured on validation; the last rung is the whole of it.
    Schedule and learning rate are those of the whole throughout, so a rung is a state that the whole tuning passes
    through, and going on from it repeats no step.
    """

    name: Literal["none", "asha"] = Field(
        default="none",
        description="none: every trial is tuned whole. asha: every trial up to the first rung, then of each rung the "
        "best 1/reduction up to the next, as soon as they are known to be that.",
    )
    reduction: int = Field(default=3, ge=2, description="asha: 1/reduction of the trials of a rung go on.")
    rungs: int = Field(default=3, ge=2, description="asha: number of rungs, the whole tuning included.")

    @property
    def number_of_rungs(self) -> int:
        """1 without early stopping: the whole tuning."""
        return 1 if self.name == "none" else self.rungs

    def stop_step(self, rung: int, steps: int) -> int:
        """After how many of its `steps` a trial's B-Tuning is measured at a rung (from 0)."""
        if rung >= self.number_of_rungs - 1:
            return steps
        return max(1, math.ceil(steps / self.reduction ** (self.rungs - 1 - rung)))
