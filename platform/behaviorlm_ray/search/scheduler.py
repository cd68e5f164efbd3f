"""Early stopping: what a rung is, in steps of B-Tuning, and the settings of successive halving (ASHA)."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class SchedulerSettings(Settings):
    """Which trials are tuned to the end.

    A rung is a number of optimizer steps of a trial's own B-Tuning, after which it is measured on validation; the last
    rung is the whole of it. Schedule and learning rate are those of the whole tuning throughout, so a rung is a state
    that the whole tuning passes through, and going on from it repeats no step.
    """

    name: Literal["none", "asha"] = Field(
        default="none",
        description="none: every trial is tuned whole. asha: every trial up to the first rung, then of each rung the "
        "best 1/reduction up to the next, as soon as they are known to be that.",
    )
    reduction: int = Field(default=3, ge=2, description="asha: 1/reduction of the trials of a rung go on.")
    rungs: int = Field(default=3, ge=2, description="asha: number of rungs, the whole tuning included.")
    unit: Literal["share", "steps", "sample_epochs"] = Field(
        default="share",
        description="asha: what `at` counts: shares of the trial's own B-Tuning, its optimizer steps, or its passes "
        "over the selected samples.",
    )
    at: list[float] | None = Field(
        default=None,
        description="asha: where the rungs before the whole tuning are, rungs - 1 rising numbers; null: shares, each "
        "1/reduction of the next, so 1/9 and 1/3 with 3 rungs and reduction 3. Always rounded up to a step; a rung "
        "beyond the end is the end.",
    )

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        if self.name == "none":
            if self.at is not None:
                raise ValueError("at: scheduler 'none' has no rungs; set scheduler.name to asha")
            return self
        if self.at is None:
            if self.unit != "share":
                raise ValueError(
                    f"at: give {self.rungs - 1} numbers of {self.unit}, one for each rung before the last"
                )
            return self
        if len(self.at) != self.rungs - 1:
            raise ValueError(f"at: rungs is {self.rungs}, so give {self.rungs - 1} numbers, got {self.at}")
        if sorted(set(self.at)) != self.at or self.at[0] <= 0:
            raise ValueError(f"at: give rising numbers above 0, got {self.at}")
        if self.unit == "share" and self.at[-1] >= 1:
            raise ValueError(f"at: shares lie below 1 (the last rung is 1 anyway), got {self.at}")
        if self.unit == "steps" and any(value != int(value) for value in self.at):
            raise ValueError(f"at: steps are whole numbers, got {self.at}")
        return self

    @property
    def number_of_rungs(self) -> int:
        """1 without early stopping: the whole tuning."""
        return 1 if self.name == "none" else self.rungs

    def stop_step(self, rung: int, steps: int, steps_per_epoch: int) -> int:
        """After how many of its `steps` a trial's B-Tuning is measured at a rung (from 0)."""
        if rung >= self.number_of_rungs - 1:
            return steps
        if self.at is None:
            wanted = math.ceil(steps / self.reduction ** (self.rungs - 1 - rung))
        elif self.unit == "share":
            wanted = math.ceil(self.at[rung] * steps - 1e-9)
        elif self.unit == "steps":
            wanted = int(self.at[rung])
        else:
            wanted = math.ceil(self.at[rung] * steps_per_epoch - 1e-9)
        return max(1, min(wanted, steps))
