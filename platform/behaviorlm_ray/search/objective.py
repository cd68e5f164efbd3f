"""What a search looks for: the order of trials by their metrics on validation, and the floor for anchors."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings

ANCHOR, TAIL, MEAN = "anchor_accuracy", "tail_macro_recall", "objective"
METRICS = (MEAN, ANCHOR, TAIL)
Metrics = Mapping[str, float | None]


class ObjectiveSettings(Settings):
    """What the winner has most of, on validation samples."""

    name: Literal["mean", "tail"] = Field(
        default="mean",
        description="mean: of anchor accuracy and tail macro recall (`anchor_tail_objective`). tail: tail macro recall "
        "among trials that reach `floor`.",
    )
    floor: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="For tail: least anchor accuracy (0.62); with `floor_arm`, how far from that of the arm (-0.005: "
        "half a point less).",
    )
    floor_arm: str | None = Field(
        default=None,
        description="The arm of the run that `floor` counts from; it is tuned and measured first, on the same "
        "validation samples.",
    )

    @model_validator(mode="after")
    def _floor_goes_with_tail(self) -> Self:
        if (self.name == "tail") != (self.floor is not None):
            raise ValueError("objective 'tail' needs a floor, such as 0.62, and only it has one")
        if self.floor_arm is not None and self.floor is None:
            raise ValueError("floor_arm: only a floor can count from an arm")
        return self

    @property
    def described_floor(self) -> str:
        """`0.62`, or `one_stage -0.005`."""
        return f"{self.floor:g}" if self.floor_arm is None else f"{self.floor_arm} {self.floor:+g}"

    @property
    def compared_by(self) -> str:
        """The metric that the winner has most of."""
        return TAIL if self.name == "tail" else MEAN


def ranked(objective: ObjectiveSettings, floor: float | None, trials: Sequence[Metrics]) -> list[int]:
    """Places of the trials, the best first; of equal ones the earlier. Below a floor, the nearest to it is best."""
    keys: list[tuple[float, ...]] = [(as_number(trial[MEAN]),) for trial in trials]
    if objective.name == "tail":
        assert floor is not None
        keys = [
            (1.0, as_number(trial[TAIL])) if reaches(trial, floor) else (0.0, as_number(trial[ANCHOR]))
            for trial in trials
        ]
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=True)  # equal ones stay in their order


def reaches(trial: Metrics, floor: float) -> bool:
    """Whether anchor accuracy is at the floor or above, but for rounding."""
    return as_number(trial[ANCHOR]) >= floor - 1e-9


def described_metrics(metrics: Metrics) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    numbers = {name: metrics.get(name) for name in METRICS}
    return ", ".join(f"{name} {'none' if it is None else format(it, '.4f')}" for name, it in numbers.items())


def as_number(value: float | None) -> float:
    """Without a sample of its group a metric is None: as bad as can be, alike for all trials."""
    return -1.0 if value is None else value
