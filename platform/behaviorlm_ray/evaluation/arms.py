"""One model measured: what is chosen on validation in one pass, and what is measured on test in another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import require_label_scores
from behaviorlm.metrics.outcomes import Choices, Outcomes, outcomes
from behaviorlm.metrics.score_summary import summarize_scores
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
from behaviorlm_ray.evaluation.fronts import AdjustmentFront, adjustment_front
from behaviorlm_ray.evaluation.predictors import (
    ArmScores,
    Arrays,
    Kept,
    Predictor,
    keep,
    outcome_arrays,
    outcomes_from,
    summary_arrays,
    summary_from,
)
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.scoring.score_files import ScoreBatch

Targets = NDArray[np.int32]


@dataclass(frozen=True)
class Rules:
    """How every model is decided by; tau is chosen from the grid on validation."""

    log: PreparedLog
    tau_grid: Sequence[float]
    tail_minimum_targets: int

    @property
    def is_anchor(self) -> NDArray[np.bool_]:
        """bool[K]."""
        return self.log.vocabulary.is_anchor

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """What adjustment takes out; float64[K]."""
        return log_prior(self.log.vocabulary.counts)

    @cached_property
    def label_lengths(self) -> NDArray[np.int64]:
        """Tokens of each label with its terminator; int64[K]."""
        return np.array([len(label) for label in labels_with_terminator(self.log.prompt)], np.int64)


@dataclass(frozen=True)
class MeasuredArm:
    """A model on the test samples.

    forms: outcomes under each decision rule that changes the ranking: "pmi", "per_token", "adjusted", those there are.
    choice: None without validation samples. front_choices: int32[n, taus], only where they are asked for.
    """

    kept: Kept
    forms: dict[str, Outcomes]
    choice: TauChoice | None
    front: AdjustmentFront
    front_choices: NDArray[np.int32] | None


def measure_arm(
    scores: ArmScores, validation: Targets, test: Targets, rules: Rules, *, keep_front: bool
) -> MeasuredArm:
    """Measure a model: targets of validation and test int32[n], -1 for those unseen in training."""
    choice = choose_on_validation(scores.validation, validation, rules) if len(validation) else None
    behaviors = len(rules.is_anchor)

    def reduce(batch: ScoreBatch) -> Arrays:
        targets = test[batch.places]
        arrays = summary_arrays(summarize_scores(batch.label_scores, targets))
        for form, label_scores in _forms(batch, scores, choice, rules):
            found = outcome_arrays(outcomes(label_scores, targets, batch.places))
            arrays |= {f"{form}.{name}": values for name, values in found.items()}
        return arrays | {"front": adjusted_choices(batch.label_scores, rules.prior, FRONT_TAUS)}

    arrays = keep(scores.test(), len(test), reduce)

    def outcomes_of(form: str) -> Outcomes:
        found = {name: arrays[f"{form}.{name}"] for name in ("predicted", "rank", "confidence")}
        return outcomes_from(found, test, behaviors)

    untuned = ("pmi", "per_token") if scores.without_history is not None else ()
    adjusted = () if choice is None else ("adjusted",)
    return MeasuredArm(
        Kept(outcomes_of("plain"), summary_from(arrays)),
        {form: outcomes_of(form) for form in (*untuned, *adjusted)},
        choice,
        adjustment_front(arrays["front"], test, rules.is_anchor),
        arrays["front"] if keep_front else None,
    )


def choose_on_validation(predictor: Predictor, targets: Targets, rules: Rules) -> TauChoice:
    """The strength of logit adjustment, and what validation says with and without it."""

    def reduce(batch: ScoreBatch) -> Arrays:
        adjusted = adjusted_choices(batch.label_scores, rules.prior, rules.tau_grid)
        return plain_choices(batch) | {"adjusted": adjusted}

    found = keep(predictor(), len(targets), reduce)
    plain = Choices(targets, found["plain"], len(rules.is_anchor))
    return choose_tau(plain, found["adjusted"], rules.is_anchor, rules.tau_grid, rules.tail_minimum_targets)


def plain_choices(batch: ScoreBatch) -> Arrays:
    """The behavior ranked first, as "plain". Raises DataError for scores that cannot be ranked."""
    require_label_scores(batch.label_scores, None, batch.places)
    return {"plain": batch.label_scores.argmax(axis=1).astype(np.int32)}


def _forms(
    batch: ScoreBatch, scores: ArmScores, choice: TauChoice | None, rules: Rules
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The label scores of a batch under each decision rule, one after another, in the order of the tables."""
    yield "plain", batch.label_scores
    if scores.without_history is not None:
        alone = scores.without_history(batch.places)
        yield "pmi", pointwise_mutual_information(batch.label_scores, alone)
        yield "per_token", per_token_mean(batch.label_scores, rules.label_lengths)
    if choice is not None:
        yield "adjusted", logit_adjustment(batch.label_scores, rules.prior, choice.tau)
