"""The space of a search: what each key of the run may be, which keys depend on others, and points of the space."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from behaviorlm.config import Settings

Parameters = dict[str, Any]
"""Dotted keys of a run and the values that a trial gives them."""


class Dimension(Settings):
    """What one key may be: exactly one of choice, uniform, log_uniform, integer, log_integer."""

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
    log_integer: tuple[int, int] | None = Field(
        default=None, description="The same, low > 0, all orders of magnitude alike."
    )
    points: int | None = Field(
        default=None, ge=2, description="For a grid: so many values of a range, evenly spaced, ends included."
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
            if self.points is not None:
                raise ValueError("points: a choice has its values already")
            return self
        low, high = self.bounds
        if low >= high:
            raise ValueError(f"{given[0]}: give [low, high] with low < high, got [{low}, {high}]")
        if self.is_log and low <= 0:
            raise ValueError(f"{given[0]}: low must be above 0, got {low}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        found = self.uniform or self.log_uniform or self.integer or self.log_integer
        assert found is not None
        return found

    @property
    def is_log(self) -> bool:
        """Whether a range is even in the logarithm."""
        return self.log_uniform is not None or self.log_integer is not None

    @property
    def is_whole(self) -> bool:
        """Whether a range has whole numbers only."""
        return self.integer is not None or self.log_integer is not None

    def values(self) -> list[Any] | None:
        """The values of a grid; None for a range without `points`."""
        if self.choice is not None:
            return self.choice
        if self.points is None:
            return None
        low, high = self.bounds
        spaced = np.geomspace(low, high, self.points) if self.is_log else np.linspace(low, high, self.points)
        if self.is_whole:
            return list(dict.fromkeys(round(value) for value in spaced.tolist()))
        return [float(f"{value:.12g}") for value in spaced.tolist()]

    def ends(self) -> list[Any]:
        """All values of a choice, the ends of a range: what is tried out before anything starts."""
        return self.choice if self.choice is not None else list(self.bounds)

    def draw(self, random: np.random.Generator) -> Any:
        """A value at random."""
        if self.choice is not None:
            return self.choice[int(random.integers(len(self.choice)))]
        low, high = self.bounds
        if self.integer is not None:
            return int(random.integers(int(low), int(high), endpoint=True))
        drawn = math.exp(random.uniform(math.log(low), math.log(high))) if self.is_log else None
        if self.log_integer is not None:
            assert drawn is not None
            return int(min(high, max(low, round(drawn))))
        return float(drawn if drawn is not None else random.uniform(low, high))


COUNTABLE = 100_000
"""Combinations above which a grid is not gone through (our choice)."""

KINDS = ("choice", "uniform", "log_uniform", "integer", "log_integer")
Space = Mapping[str, Dimension]


def read_space(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": [1, 2]}}` as `{"a.b": {"choice": [1, 2]}}`; of two that name the same key, the later one."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            flat[name] = {"choice": value}
        elif isinstance(value, Mapping) and value and not value.keys() & {*KINDS, "when", "points"}:
            flat |= read_space(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def problems_of_conditions(space: Space) -> list[str]:
    """What is wrong with `when`, a line each."""
    problems = []
    before: list[str] = []
    for key, dimension in space.items():
        for other, allowed in dimension.when.items():
            if other not in before:
                problems.append(
                    f"space.{key}.when: {other!r} is not a key of the space that stands before it; "
                    f"there: {', '.join(before) or 'none'}"
                )
                continue
            possible = space[other].choice
            if possible is None:
                problems.append(f"space.{key}.when: {other} is a range; only a choice can be asked for")
            elif unknown := [value for value in _listed(allowed) if value not in possible]:
                problems.append(f"space.{key}.when: {other} is never {unknown}; it may be {possible}")
        before.append(key)
    return problems


def is_active(dimension: Dimension, chosen: Mapping[str, Any]) -> bool:
    """Whether the key exists beside what was chosen for the keys before it."""
    return all(key in chosen and chosen[key] in _listed(allowed) for key, allowed in dimension.when.items())


def point(space: Space, choose: Callable[[str, Dimension], Any]) -> Parameters:
    """A point of the space, each key that exists in it chosen in order."""
    chosen: Parameters = {}
    for key, dimension in space.items():
        if is_active(dimension, chosen):
            chosen[key] = choose(key, dimension)
    return chosen


def grid_points(space: Space) -> list[Parameters]:
    """Every combination of the grid's values; the last key varies fastest. All dimensions must have values."""
    values = [(key, dimension.values() or []) for key, dimension in space.items()]
    found: list[Parameters] = []
    seen: set[str] = set()
    for combination in itertools.product(*(options for _, options in values)):
        made = _active(space, dict(zip(space, combination, strict=True)))
        if repr(made) not in seen:
            seen.add(repr(made))
            found.append(made)
    return found


def _active(space: Space, values: Parameters) -> Parameters:
    return point(space, lambda key, _: values[key])


def grid_size(space: Space) -> int | None:
    """How many points the space has; None if a range makes them countless, or too many to count."""
    values = [dimension.values() if dimension.points is None else None for dimension in space.values()]
    if any(value is None for value in values):
        return None
    return len(grid_points(space)) if combinations(space) <= COUNTABLE else None


def combinations(space: Space) -> int:
    """How many combinations a grid goes through, conditions apart."""
    return math.prod(len(dimension.values() or []) for dimension in space.values())


def random_point(space: Space, seed: Sequence[int]) -> Parameters:
    """A point drawn with this seed."""
    random = np.random.default_rng(list(seed))
    return point(space, lambda _, dimension: dimension.draw(random))


def single_changes(space: Space) -> Iterator[Parameters]:
    """Each value (of ranges: the ends) on its own, with only what its condition asks for."""
    for key, dimension in space.items():
        needed = _needed(space, dimension)
        for value in dimension.ends():
            yield needed | {key: value}


def _needed(space: Space, dimension: Dimension) -> Parameters:
    needed: Parameters = {}
    for other, allowed in dimension.when.items():
        needed |= _needed(space, space[other]) | {other: _listed(allowed)[0]}
    return needed


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
