"""How a search chooses points of its space: the settings alone, which are read before Optuna is loaded."""

from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings


class AlgorithmSettings(Settings):
    """How points of the space are chosen."""

    name: Literal["grid", "random", "optuna"] = Field(
        default="grid",
        description="grid: every combination. random: points at random. optuna: the tree-structured Parzen estimator "
        "(TPE) on what trials found so far; with objective multi, the multi-objective TPE; with a floor, under that "
        "constraint.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of random points and of TPE.")
    startup_trials: int = Field(
        default=10, ge=1, description="optuna: so many trials at random before TPE chooses."
    )
