"""The strengths of logit adjustment and what counts in their choice, as settings offer them. No array library."""

FRONT_TAUS = tuple(step / 20 for step in range(-20, 31))
"""Strengths along a front, our choice: 1 takes the prior out of the scores, -1 puts it in once more (a model tuned on
a balanced subset has lost it), and 1.5 reaches past the best on real logs."""
CHOICE_TAUS = (-0.75, -0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Strengths that validation chooses from, the same for every model."""
TAIL_MINIMUM_TARGETS = 1
"""Validation targets from which on a tail behavior counts in `anchor_tail_objective`."""
