"""What a search looks for: the order of trials by their metrics on validation, the floor for anchors, the front."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings

ANCHOR, TAIL, MEAN = "anchor_accuracy", "tail_macro_recall", "objective"
METRICS = (MEAN, ANCHOR, TAIL)
Metrics = Mapping[str, float | None]

_FLOOR = re.compile(r"(?:(?P<arm>[a-z][a-z0-9_]*)\s*)?(?P<number>(?:[+-]\s*)?[0-9.]+)?")


class ObjectiveSettings(Settings):
    """What the winner has most of, on validation samples."""

    name: Literal["mean", "tail", "multi"] = Field(
        default="mean",
        description="mean: of anchor accuracy and tail macro recall (`anchor_tail_objective`). tail: tail macro recall "
        "among trials that reach `floor`. multi: both, neither counting more; the front is the result, and the winner "
        "that point of it with the best mean.",
    )
    floor: str | float | None = Field(
        default=None,
        description="For tail: least anchor accuracy, as a number (0.62) or relative to an arm of the base run on the "
        "same validation samples (one_stage - 0.005).",
    )

    @model_validator(mode="after")
    def _floor_goes_with_tail(self) -> Self:
        if (self.name == "tail") != (self.floor is not None):
            raise ValueError(
                "objective 'tail' needs a floor, such as 'one_stage - 0.005', and only it has one"
            )
        if self.floor is not None:
            read_floor(self.floor)
        return self


def compared_by(objective: ObjectiveSettings) -> str:
    """The one metric by which reports compare trials: that which the winner has most of; of two, their mean."""
    return TAIL if objective.name == "tail" else MEAN


class Floor(NamedTuple):
    """Least anchor accuracy: that of an arm plus a change, or the change alone."""

    arm: str | None
    change: float


def read_floor(text: str | float) -> Floor:
    """`one_stage - 0.005` or `0.62`. Raises ValueError."""
    found = _FLOOR.fullmatch(str(text).strip())
    try:
        if found is None or not (found["arm"] or found["number"]):
            raise ValueError
        number = (found["number"] or "+0").replace(" ", "")
        if (number[0] in "+-") != (found["arm"] is not None):
            raise ValueError
        floor = Floor(found["arm"], float(number))
    except ValueError:
        raise ValueError(
            f"floor: {text!r} is neither a number nor an arm with a change, such as 'one_stage - 0.005'"
        ) from None
    if not -1 <= floor.change <= 1:
        raise ValueError(f"floor: accuracies lie in 0 to 1 (0.5 points are 0.005), got {text!r}")
    return floor


def ranked(objective: ObjectiveSettings, floor: float | None, trials: Sequence[Metrics]) -> list[int]:
    """Places of the trials, the best first; of equal ones the earlier. Below a floor, the nearest to it is best."""
    keys: list[tuple[float, ...]]
    if objective.name == "mean":
        keys = [(as_number(trial[MEAN]),) for trial in trials]
    elif objective.name == "tail":
        assert floor is not None
        keys = [
            (1.0, as_number(trial[TAIL])) if reaches(trial, floor) else (0.0, as_number(trial[ANCHOR]))
            for trial in trials
        ]
    else:
        keys = [
            (-front, as_number(trial[MEAN]))
            for front, trial in zip(_front_numbers(trials), trials, strict=True)
        ]
    return sorted(range(len(keys)), key=lambda place: (tuple(-part for part in keys[place]), place))


def reaches(trial: Metrics, floor: float) -> bool:
    """Whether anchor accuracy is at the floor or above, but for rounding."""
    return as_number(trial[ANCHOR]) >= floor - 1e-9


def pareto_front(trials: Sequence[Metrics]) -> list[int]:
    """Places of the trials that no other one beats in anchor accuracy or tail macro recall without being worse."""
    return [place for place, front in enumerate(_front_numbers(trials)) if front == 0]


def described_metrics(metrics: Metrics) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    return ", ".join(
        f"{name} {'none' if (value := metrics.get(name)) is None else format(value, '.4f')}"
        for name in METRICS
    )


def as_number(value: float | None) -> float:
    """Without a sample of its group a metric is None: as bad as can be, alike for all trials."""
    return -1.0 if value is None else value


def _front_numbers(trials: Sequence[Metrics]) -> list[int]:
    """0 for trials that no other dominates, 1 for those that only trials of front 0 dominate, and so on."""
    pairs = [(as_number(trial[ANCHOR]), as_number(trial[TAIL])) for trial in trials]
    numbers: dict[int, int] = {}
    for front in range(len(pairs)):
        left = [place for place in range(len(pairs)) if place not in numbers]
        numbers |= {
            place: front
            for place in left
            if not any(_dominates(pairs[other], pairs[place]) for other in left)
        }
    return [numbers[place] for place in range(len(pairs))]


def _dominates(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first != second and first[0] >= second[0] and first[1] >= second[1]
