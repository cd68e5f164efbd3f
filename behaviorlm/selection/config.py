"""How difficulty is measured and which samples are selected by it. Our choice throughout. Light: no array library."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class DifficultyConfig(Settings):
    """Which number orders the samples, and which model it comes from. Our choice throughout."""

    measure: Literal["nll", "rank", "margin", "excess", "reducible"] = Field(
        default="excess",
        description="The measure by which samples are selected; all are stored. nll: surprise over the "
        "vocabulary; rank: place of the target; margin: best other behavior's lead; excess: nll minus the "
        "prediction's entropy; reducible: nll minus that of a reference model tuned on the other half of the "
        "data",
    )
    source: Literal["start", "base", "cross_fit"] = Field(
        default="start",
        description="The model that scores. start: the one that B-Tuning goes on from; cross_fit: two tuned like it, "
        "each scoring the half of the groups that it has not seen",
    )
    max_per_behavior: int | None = Field(
        default=None,
        ge=1,
        description="Score at most this many training samples of each behavior, drawn at random; only these can be "
        "selected. Saves time where a few behaviors have most of the samples. null: score all",
    )
    seed: int = Field(default=0, ge=0, description="Seed of that draw")


class SelectionConfig(Settings):
    """How large the subset is, how balanced over behaviors, and which samples of a behavior it takes."""

    total: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3,
        description="Samples to select: a count (1000) or a share (0.3) of the training samples that were scored "
        "(all of them unless difficulty.max_per_behavior is set)",
    )
    balance: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="A behavior with n samples gets a quota proportional to n^(1 - balance): 0 keeps the "
        "natural mix, 1 gives equal counts",
    )
    anchor_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the subset for anchor behaviors, the rest for the tail; balance then applies "
        "inside each. null: one mix over all behaviors",
    )
    max_per_behavior: int | None = Field(
        default=None, ge=1, description="No behavior gets more samples than this; null: no limit"
    )
    within: Literal["hard", "easy", "band", "mixed", "random"] = Field(
        default="mixed",
        description="Which samples of a behavior: the hardest, the easiest, uniformly from a band of "
        "difficulty, a share of the hardest and the rest uniformly, or uniformly",
    )
    band: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        default=(0.25, 0.75),
        description="For band: lower and upper quantile of difficulty within the behavior, 0 is the easiest",
    )
    hard_share: float = Field(
        default=0.5, ge=0, le=1, description="For mixed: share of a behavior's quota taken from the hardest"
    )
    seed: int = Field(default=0, description="Seed of the uniform choices")

    @model_validator(mode="after")
    def _band_is_ordered(self) -> "SelectionConfig":
        if self.band[0] >= self.band[1]:
            raise ValueError(f"band must be [low, high] with low < high, got {list(self.band)}")
        return self
