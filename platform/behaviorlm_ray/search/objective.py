"""What a search looks for: the order of trials by their metrics on validation, the floor for anchors, the front."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings

ANCHOR, TAIL, MEAN = "anchor_accuracy", "tail_macro_recall", "objective"
METRICS = (MEAN, ANCHOR, TAIL)
Metrics = Mapping[str, float | None]

_FLOOR = re.compile(r"([a-z][a-z0-9_]*)\s*([+-]\s*\d*\.?\d+)?|(\d*\.?\d+)")


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

    @property
    def compared_by(self) -> str:
        """The one metric by which reports compare trials: that which the winner has most of; of two, their mean."""
        return TAIL if self.name == "tail" else MEAN


class Floor(NamedTuple):
    """Least anchor accuracy: that of an arm plus a change, or the change alone."""

    arm: str | None
    change: float


def read_floor(text: str | float) -> Floor:
    """`one_stage - 0.005` or `0.62`. Raises ValueError."""
    found = _FLOOR.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(
            f"floor: {text!r} is neither a number nor an arm with a change, such as 'one_stage - 0.005'"
        )
    arm, change, number = found.groups()
    floor = Floor(arm, float((change or number or "0").replace(" ", "")))
    if not -1 <= floor.change <= 1:
        raise ValueError(f"floor: accuracies lie in 0 to 1 (0.5 points are 0.005), got {text!r}")
    return floor


def ranked(objective: ObjectiveSettings, floor: float | None, trials: Sequence[Metrics]) -> list[int]:
    """Places of the trials, the best first; of equal ones the earlier. Below a floor, the nearest to it is best."""
    keys: list[tuple[float, ...]] = [(as_number(trial[MEAN]),) for trial in trials]
    if objective.name == "tail":
        assert floor is not None
        keys = [
            (1.0, as_number(trial[TAIL])) if reaches(trial, floor) else (0.0, as_number(trial[ANCHOR]))
            for trial in trials
        ]
    elif objective.name == "multi":
        keys = [(-front, *mean) for front, mean in zip(front_numbers(trials), keys, strict=True)]
    return sorted(
        range(len(keys)), key=keys.__getitem__, reverse=True
    )  # which keeps equal ones in their order


def reaches(trial: Metrics, floor: float) -> bool:
    """Whether anchor accuracy is at the floor or above, but for rounding."""
    return as_number(trial[ANCHOR]) >= floor - 1e-9


def described_metrics(metrics: Metrics) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    numbers = {name: metrics.get(name) for name in METRICS}
    return ", ".join(f"{name} {'none' if it is None else format(it, '.4f')}" for name, it in numbers.items())


def front_numbers(trials: Sequence[Metrics]) -> list[int]:
    """0 for trials that no other dominates, 1 for those that only trials of front 0 dominate, and so on."""
    pairs = [(as_number(trial[ANCHOR]), as_number(trial[TAIL])) for trial in trials]
    numbers: dict[tuple[float, float], int] = {}
    for pair in sorted(set(pairs), reverse=True):  # so all that may dominate it are numbered
        above = [front for other, front in numbers.items() if other[1] >= pair[1]]
        numbers[pair] = 1 + max(above, default=-1)
    return [numbers[pair] for pair in pairs]


def as_number(value: float | None) -> float:
    """Without a sample of its group a metric is None: as bad as can be, alike for all trials."""
    return -1.0 if value is None else value
