"""The space of a search: what each key of the run may be, which keys depend on others; and points of the space."""

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
    when: dict[str, Any] = Field(
        default={},
        description="The key only exists in trials in which keys that stand before it have these values, such as "
        "{selection.within: mixed} or {selection.within: [mixed, hard]}; elsewhere the run's own value stays.",
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
        "(TPE) on what trials found so far; with objective multi, the multi-objective TPE; with a floor, under that "
        "constraint.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of random points and of TPE.")
    startup_trials: int = Field(
        default=10, ge=1, description="optuna: so many trials at random before TPE chooses."
    )


Space = Mapping[str, Dimension]


def read_space(nested: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": [1, 2]}}` as `{"a.b": {"choice": [1, 2]}}`; of two that name the same key, the later one."""
    flat = flattened(nested, lambda value: bool(value.keys() & {*KINDS, "when"}))
    return {key: value if isinstance(value, Mapping) else {"choice": value} for key, value in flat.items()}


def problems_of_conditions(space: Space) -> Iterator[str]:
    """What is wrong with `when`, a line each."""
    for place, (key, dimension) in enumerate(space.items()):
        before = list(space)[:place]
        for other, allowed in dimension.when.items():
            if other not in before:
                yield (
                    f"space.{key}.when: {other!r} is not a key of the space that stands before it; "
                    f"there: {', '.join(before) or 'none'}"
                )
            elif (possible := space[other].choice) is None:
                yield f"space.{key}.when: {other} is a range; only a choice can be asked for"
            elif unknown := [value for value in _listed(allowed) if value not in possible]:
                yield f"space.{key}.when: {other} is never {unknown}; it may be {possible}"


def point(space: Space, values: Mapping[str, Any]) -> Parameters:
    """Of a value for each key those that exist beside the values of the keys before them."""
    chosen: Parameters = {}
    for key, dimension in space.items():
        if all(
            other in chosen and chosen[other] in _listed(allowed) for other, allowed in dimension.when.items()
        ):
            chosen[key] = values[key]
    return chosen


def grid_points(space: Space) -> list[Parameters]:
    """Every combination of a space of choices; the last key varies fastest."""
    combined = itertools.product(*(dimension.choice or [] for dimension in space.values()))
    made = [point(space, dict(zip(space, values, strict=True))) for values in combined]
    return list({repr(each): each for each in made}.values())


def combinations(space: Space) -> int:
    """How many combinations a grid goes through, conditions apart."""
    return math.prod(len(dimension.choice or []) for dimension in space.values())


def single_changes(space: Space) -> Iterator[Parameters]:
    """Each value (of ranges: the ends) on its own, with only what its condition asks for."""
    for key, dimension in space.items():
        for value in dimension.choice or dimension.bounds:
            yield _needed(space, dimension) | {key: value}


def describe(parameters: Parameters) -> str:
    """`selection.balance=0.3, auxiliary.0.weight=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def _needed(space: Space, dimension: Dimension) -> Parameters:
    needed: Parameters = {}
    for other, allowed in dimension.when.items():
        needed |= _needed(space, space[other]) | {other: _listed(allowed)[0]}
    return needed


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
