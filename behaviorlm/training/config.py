"""What a tuning's loss is, as settings offer it. No array library."""

from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings


class LossConfig(Settings):
    """The loss of samples. Conversations always have that of a plain language model."""

    tokens: Literal["all", "labels"] = Field(
        "all",
        description="Tokens that the softmax of a label's tokens runs over. all: the model's whole vocabulary. labels: "
        "those of the behaviors' names and their terminator, as if no other could be said; the LM head then computes "
        "some hundred rows instead of all. It says nothing of other texts, so it needs scoring.normalization: trie.",
    )
