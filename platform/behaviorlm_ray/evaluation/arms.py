"""One model measured: what is chosen on validation in one pass, and what is measured on test in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.outcomes import Choices, Outcomes
from behaviorlm.metrics.score_batches import (
    Arrays,
    Rule,
    ScoreBatch,
    first_choices,
    keep,
    keep_predictions,
)
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.scoring.adjustment_front import AdjustmentFront, adjustment_front
from behaviorlm.scoring.config import FRONT_TAUS
from behaviorlm.scoring.decision_rules import (
    TauChoice,
    adjusted_choices,
    choose_tau,
    log_prior,
    logit_adjustment,
    per_token_mean,
    pointwise_mutual_information,
)
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray.evaluation.predictors import ArmScores, Predictor

Targets = NDArray[np.int32]


@dataclass(frozen=True)
class Rules:
    """How every model is decided by; tau is chosen from the grid on validation."""

    vocabulary: Vocabulary
    prompt: PromptTokens
    tau_grid: Sequence[float]
    tail_minimum_targets: int

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """What adjustment takes out; float64[K]."""
        return log_prior(self.vocabulary.counts)

    @cached_property
    def label_lengths(self) -> NDArray[np.int64]:
        """Tokens of each label with its terminator; int64[K]."""
        return np.array([len(label) for label in labels_with_terminator(self.prompt)], np.int64)


@dataclass(frozen=True)
class MeasuredArm:
    """A model on the test samples.

    outcomes: of the scores themselves. forms: outcomes under the decision rules that change the ranking: "pmi",
    "per_token", "adjusted", those there are. choice: None without validation samples. front_choices: what is chosen at
    each point of the front, int32[n, points], where that is asked for.
    """

    outcomes: Outcomes
    forms: dict[str, Outcomes]
    choice: TauChoice | None
    front: AdjustmentFront
    front_choices: NDArray[np.int32] | None


def measure_arm(
    scores: ArmScores, validation: Targets, test: Targets, rules: Rules, *, keep_front: bool
) -> MeasuredArm:
    """Measure a model: targets of validation and test int32[n], -1 for those unseen in training."""
    choice = choose_on_validation(scores.validation, validation, rules) if len(validation) else None
    kept = keep_predictions(
        scores.test(),
        test,
        len(rules.vocabulary),
        _forms(scores, choice, rules),
        lambda batch: adjusted_choices(batch.label_scores, rules.prior, FRONT_TAUS),
    )
    assert kept.choices is not None
    front = adjustment_front(kept.choices, test, rules.vocabulary.is_anchor)
    return MeasuredArm(kept.outcomes, kept.forms, choice, front, kept.choices if keep_front else None)


def choose_on_validation(predictor: Predictor, targets: Targets, rules: Rules) -> TauChoice:
    """The strength of logit adjustment, and what validation says with and without it."""

    def reduce(batch: ScoreBatch) -> Arrays:
        adjusted = adjusted_choices(batch.label_scores, rules.prior, rules.tau_grid)
        return {"plain": first_choices(batch), "adjusted": adjusted}

    found, is_anchor = keep(predictor(), len(targets), reduce), rules.vocabulary.is_anchor
    plain = Choices(targets, found["plain"], len(is_anchor))
    return choose_tau(plain, found["adjusted"], is_anchor, rules.tau_grid, rules.tail_minimum_targets)


def _forms(scores: ArmScores, choice: TauChoice | None, rules: Rules) -> dict[str, Rule]:
    """The decision rules that there are, in the order of the tables."""
    found: dict[str, Rule] = {}
    alone = scores.without_history
    if alone is not None:
        found["pmi"] = lambda batch: pointwise_mutual_information(batch.label_scores, alone(batch.places))
        if scores.counts_tokens:
            found["per_token"] = lambda batch: per_token_mean(batch.label_scores, rules.label_lengths)
    if choice is not None:
        found["adjusted"] = lambda batch: logit_adjustment(batch.label_scores, rules.prior, choice.tau)
    return found
