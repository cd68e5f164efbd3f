"""How labels are scored and decided on, as settings offer it. No array library."""

from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings

Normalization = Literal["full", "trie"]


class ScoringConfig(Settings):
    """What the probability of a behavior's name is."""

    normalization: Normalization = Field(
        "full",
        description="full: what the model says of the whole name among all texts. trie: of a model that can only say "
        "names of the vocabulary, a softmax over what may follow at each token; only where names part does it run, so "
        "it is many times cheaper. Two different models: which is better is to be measured for each base.",
    )


FRONT_TAUS = tuple(step / 20 for step in range(-20, 31))
"""Strengths along a front, our choice: 1 takes the prior out of the scores, -1 puts it in once more (a model tuned on
a balanced subset has lost it), and 1.5 reaches past the best on real logs."""
CHOICE_TAUS = (-0.75, -0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Strengths that validation chooses from, the same for every model."""
TAIL_MINIMUM_TARGETS = 1
"""Validation targets from which on a tail behavior counts in `anchor_tail_objective`."""
