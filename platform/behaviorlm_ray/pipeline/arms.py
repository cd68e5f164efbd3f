"""The arms of a comparison: ways of tuning a model on one log, each a path through the stages and changed keys."""

from typing import Any, Literal

from pydantic import Field, field_validator

from behaviorlm.config import Settings

Tuning = Literal["untuned", "one_stage", "thinned", "a_tuned", "ab_tuned"]
"""untuned: the base model; one_stage: tuned on all samples at once; thinned: as that, on a subset balanced as that of
B-Tuning and drawn at random; a_tuned and ab_tuned: after A- and B-Tuning.
"""

CHANGEABLE = (
    "auxiliary",
    "auxiliary_in_one_stage",
    "auxiliary_in_b_tuning",
    "loss",
    "a_tuning",
    "one_stage",
    "difficulty",
    "selection",
    "b_tuning",
    "b_tuning_from",
    "scoring",
)
"""What an arm may change: how models are tuned and scored, never what they are measured on."""


class ArmSettings(Settings):
    """One arm: the stage whose model it is, with some keys of the run changed on the way there."""

    tuning: Tuning = Field(description="Which model of the run, after its keys are changed, the arm is.")
    description: str = Field(default="", description="What the report says about it.")
    values: dict[str, Any] = Field(
        default={},
        description="Dotted keys of the run and their values in this arm, such as {selection.within: random}; all "
        f"other keys stay. Allowed below: {', '.join(CHANGEABLE)}.",
    )

    @field_validator("values")
    @classmethod
    def _about_tuning_only(cls, values: dict[str, Any]) -> dict[str, Any]:
        wrong = [key for key in values if key.partition(".")[0] not in CHANGEABLE]
        if wrong:
            raise ValueError(
                f"an arm cannot change {', '.join(wrong)}; arms are compared on the same samples, so it may change "
                f"{', '.join(CHANGEABLE)}"
            )
        return values


PRESETS = {
    "untuned": ArmSettings(tuning="untuned", description="the base model as it came"),
    "one_stage": ArmSettings(tuning="one_stage", description="tuned on all samples at once"),
    "one_stage_auxiliary": ArmSettings(
        tuning="one_stage",
        description="tuned on all samples and auxiliary conversations at once",
        values={"auxiliary_in_one_stage": True},
    ),
    "thinned": ArmSettings(
        tuning="thinned",
        description="tuned at once on a subset balanced as B-Tuning's, drawn at random: the control for two stages",
    ),
    "a_tuned": ArmSettings(tuning="a_tuned", description="after A-Tuning, on anchor behaviors"),
    "ab_tuned": ArmSettings(tuning="ab_tuned", description="after A-Tuning and B-Tuning"),
    "ab_random": ArmSettings(
        tuning="ab_tuned",
        description="after A-Tuning and B-Tuning on a balanced subset chosen at random",
        values={"selection.within": "random"},
    ),
    "all_b": ArmSettings(
        tuning="ab_tuned",
        description="after one-stage tuning and B-Tuning",
        values={"b_tuning_from": "one_stage"},
    ),
}
"""Arms that every run has by name."""
