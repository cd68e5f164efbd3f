"""How timelines are split, which behaviors count as anchors, few shots of the others. Light: no array library."""

from typing import Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class SplitConfig(Settings):
    """How events are split. Our choice, not the paper's."""

    by: Literal["time", "group", "column"] = Field(
        default="time",
        description="time: the last events of each user; group: whole groups by a hash; column: "
        "events.split_column.",
    )
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="Share of validation (not with by: column)."
    )
    test: float = Field(default=0.1, ge=0, lt=1, description="Share of test (not with by: column).")
    seed: int = Field(default=0, description="Seed of the split by group.")

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must stay below 1: the rest is for training")
        return self


class VocabularyConfig(Settings):
    """Which behaviors exist and which are anchors."""

    anchor_threshold: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Behaviors above this share of the training targets are anchors (1 %: the paper).",
    )
    extra_names: list[str] = Field(
        default=[], description="Behaviors known to exist but perhaps never seen in training; tail ones."
    )


class FewShotConfig(Settings):
    """How few training targets the tail has, for every arm and for counting alike. The setting is the paper's, the
    numbers are our choice.

    Histories stay whole: an event that is no target any more is still part of what came before others. Vocabulary,
    counts and the cut into anchors and tail are those of all training targets.
    """

    tail_samples: int | None = Field(
        default=None,
        ge=1,
        description="At most this many training targets of each tail behavior are used, drawn by sample id; a larger "
        "number keeps what a smaller one took. Validation keeps the same share of each tail behavior. Histories stay "
        "whole. null: all.",
    )
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the training and validation targets of every behavior, anchors too, that is used, drawn "
        "as those; for how much data a method needs. Of a tail behavior tail_samples may leave fewer.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")

    @property
    def uses_all(self) -> bool:
        """Whether every target is used."""
        return self.tail_samples is None and self.share == 1
