"""What a tuning's loss is, as settings offer it. No array library."""

from typing import Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class LossConfig(Settings):
    """The loss of samples. Conversations always have that of a plain language model."""

    tokens: Literal["all", "labels", "allowed"] = Field(
        "all",
        description="Tokens that the softmax of a label's tokens runs over. all: the model's whole vocabulary. labels: "
        "those of the behaviors' names and their terminator, as if no other could be said; the LM head then computes "
        "some hundred rows instead of all. allowed: of these only what may follow at that place in any name (the "
        "masked softmax of MSL). The latter two say nothing of other texts, so they need scoring.normalization: trie.",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="With tokens: allowed, logits are divided by it, in the loss and where the tuned model is asked: "
        "what it was tuned to say is what it says.",
    )
    focal: float = Field(
        0.0,
        ge=0,
        description="Exponent of the focal loss: a sample whose whole label has the probability p counts (1 - p)^focal "
        "times. 0: all alike; 2 is usual.",
    )
    class_balance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Samples count by their behavior, inversely to the effective number of its n samples in the stage, "
        "(1 - class_balance^n) / (1 - class_balance), and 1 on average. 0: all alike; .9 to .9999 are usual.",
    )
    oversample: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Samples of rare behaviors are several times in an epoch, which is longer: with n of a behavior "
        "and m of the most frequent one it has n^(1 - oversample) m^oversample of them. 0: each once; 0.5: the square "
        "root; 1: all behaviors alike.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.temperature != 1 and self.tokens != "allowed":
            raise ValueError(
                f"temperature is {self.temperature:g}, so tokens must be 'allowed', not {self.tokens!r}"
            )
        if self.class_balance and self.oversample:
            raise ValueError(
                f"class_balance ({self.class_balance:g}) and oversample ({self.oversample:g}) both make rare behaviors "
                "count more: set one of them to 0"
            )
        return self
