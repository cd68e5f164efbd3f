"""The space of a search: what each key of the run may be; and points of the space."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings, flattened

Parameters = dict[str, Any]
"""Dotted keys of a run and the values that a trial gives them."""

COUNTABLE = 100_000
"""Combinations above which a grid is not gone through."""

KINDS = ("choice", "uniform", "log_uniform", "integer")


class Dimension(Settings):
    """What one key may be: exactly one of choice, uniform, log_uniform, integer."""

    choice: list[Any] | None = Field(default=None, description="One of these values, [0.1, 0.3].")
    uniform: tuple[float, float] | None = Field(
        default=None, description="Any number of [low, high], all alike."
    )
    log_uniform: tuple[float, float] | None = Field(
        default=None, description="Any number of [low, high], low > 0, all orders of magnitude alike."
    )
    integer: tuple[int, int] | None = Field(
        default=None, description="Any whole number of [low, high], both included."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}, got {', '.join(given) or 'none'}")
        if self.choice is not None:
            if not self.choice:
                raise ValueError("choice: give at least one value")
            if any(value in self.choice[:index] for index, value in enumerate(self.choice)):
                raise ValueError(f"choice: each value may stand there once, got {self.choice}")
            return self
        low, high = self.bounds
        if low >= high:
            raise ValueError(f"{given[0]}: give [low, high] with low < high, got [{low}, {high}]")
        if self.log_uniform is not None and low <= 0:
            raise ValueError(f"{given[0]}: low must be above 0, got {low}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        found = self.uniform or self.log_uniform or self.integer
        assert found is not None
        return found


class AlgorithmSettings(Settings):
    """How points of the space are chosen."""

    name: Literal["grid", "random", "optuna"] = Field(
        default="grid",
        description="grid: every combination. random: points at random. optuna: the tree-structured Parzen estimator "
        "(TPE) on what trials found so far, with a floor under that constraint.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of random points and of TPE.")
    startup_trials: int = Field(
        default=10, ge=1, description="optuna: so many trials at random before TPE chooses."
    )


Space = Mapping[str, Dimension]


def read_space(nested: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": [1, 2]}}` as `{"a.b": {"choice": [1, 2]}}`; of two that name the same key, the later one."""
    flat = flattened(nested, lambda value: not value.keys().isdisjoint(KINDS))
    return {key: value if isinstance(value, Mapping) else {"choice": value} for key, value in flat.items()}


def grid_points(space: Space) -> list[Parameters]:
    """Every combination of a space of choices; the last key varies fastest."""
    combined = itertools.product(*(dimension.choice or [] for dimension in space.values()))
    return [dict(zip(space, values, strict=True)) for values in combined]


def combinations(space: Space) -> int:
    """How many combinations a grid goes through."""
    return math.prod(len(dimension.choice or []) for dimension in space.values())


def single_changes(space: Space) -> Iterator[Parameters]:
    """Each value (of ranges: the ends) on its own."""
    for key, dimension in space.items():
        for value in dimension.choice or dimension.bounds:
            yield {key: value}


def describe(parameters: Parameters) -> str:
    """`selection.balance=0.3, auxiliary.0.weight=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())
