"""What a compared model is called: a predictor, and the rule that it is decided by. Light: no array library.

`ab_tuned`, `ab_tuned+adjusted`, `one_stage+counts`, `one_stage+counts+bayes`, `untuned+pmi`.
"""

from typing import NamedTuple

PLAIN, BAYES, ADJUSTED, FITTED = "plain", "bayes", "adjusted", "fitted"
DECISION_RULES = (PLAIN, BAYES, ADJUSTED, FITTED)
"""Rules that validation chooses from, the simplest first: none, no tuned number, one, three."""
WITHOUT_NUMBERS = (PLAIN, BAYES)
"""Those of which nothing is chosen on validation."""
PMI, PER_TOKEN = "pmi", "per_token"
RULES = (*DECISION_RULES, PMI, PER_TOKEN)
"""All, with the forms of an untuned model."""

COUNTS = "counts"
"""Counting as it is served."""
WITH_COUNTS = f"+{COUNTS}"


class ModelName(NamedTuple):
    """predictor: an arm, a baseline, `counts`, or an arm with `+counts`. rule: one of RULES."""

    predictor: str
    rule: str


def split_model_name(name: str) -> ModelName:
    """What a name is made of; one that ends in no rule is a predictor decided plainly."""
    predictor, _, rule = name.rpartition("+")
    return ModelName(predictor, rule) if predictor and rule in RULES else ModelName(name, PLAIN)


def model_name(predictor: str, rule: str) -> str:
    """The inverse; of a predictor decided plainly it is the predictor's own name."""
    return predictor if rule == PLAIN else f"{predictor}+{rule}"


def arm_of(predictor: str) -> str:
    """The arm of a predictor: a mixture's is that which counting was mixed with; any other name is its own."""
    return predictor.removesuffix(WITH_COUNTS)
