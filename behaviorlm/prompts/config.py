"""What a prompt says and shows, and which conversations are mixed into tuning. Light: no tokenizer library."""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from behaviorlm.config import Settings

_LINE_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class PromptConfig(Settings):
    """What a prompt says and how much history it shows. All of it is our choice."""

    instruction: str = Field(
        "Each line is one thing the user did. Say what the user does next.",
        description="The task, in the system turn (in the user turn for templates without one).",
    )
    list_behaviors: bool = Field(
        False, description="Whether the instruction lists every behavior of the vocabulary."
    )
    max_events: int = Field(16, ge=1, description="The largest number of past events that a sample sees.")
    stride: int = Field(
        8,
        ge=1,
        description="History windows start at a multiple of this many events, so that neighboring samples "
        "share tokens; a sample sees between max_events - stride + 1 and max_events past events.",
    )
    profile: int = Field(
        0,
        ge=0,
        description="How many of the behaviors that the user did most before the history window a line at its "
        "beginning names, with counts; 0: no such line.",
    )
    min_history: int = Field(1, ge=0, description="Events with fewer past events than this are no targets.")
    name_prefix: str = Field(
        " ", description="What precedes a behavior's name in history lines and labels alike."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Further variables for the chat template, such as enable_thinking: false.",
    )
    max_history_tokens: int | None = Field(
        None,
        ge=1,
        description="The largest number of history tokens of a sample; null: what the model has room for.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> "PromptConfig":
        if self.stride > self.max_events:
            raise ValueError(f"stride ({self.stride}) must not exceed max_events ({self.max_events})")
        if rendered_text(self.name_prefix) != self.name_prefix:
            raise ValueError("name_prefix must not hold a line break or another control character")
        return self


class AuxiliarySource(Settings):
    """One set of conversations that is mixed into tuning."""

    name: str = Field(description="How reports and losses call this source.")
    paths: list[str] = Field(min_length=1, description="Files, folders or globs, local or s3://bucket/key.")
    format: Literal["auto", "jsonl", "parquet"] = Field(
        "auto", description="The format of the files; auto: by suffix (.jsonl, .jsonl.gz, .parquet)."
    )
    messages: str = Field(
        "messages", description='The key or column with the list of {"role", "content"} messages.'
    )
    ratio: float = Field(0.1, ge=0, description="Conversations per sample.")
    weight: float = Field(
        1.0, ge=0, description="Weight of the mean conversation loss beside the mean sample loss."
    )
    max_tokens: int = Field(
        512, ge=2, description="Longer conversations are cut at this many tokens, and counted."
    )
    holdout_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the conversations that is never trained on and measures retention.",
    )
    max_quarantine_share: float = Field(
        0.01, ge=0, le=1, description="Fail when more than this share of the conversations cannot be used."
    )


def rendered_text(text: str) -> str:
    """Text of a log as it stands in a prompt: each run of line breaks and control characters is one space."""
    return _LINE_BREAKING.sub(" ", text)
