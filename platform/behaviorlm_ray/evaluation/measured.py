"""One predictor measured: what is chosen on validation in two passes, and what is measured on test in another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.metrics.score_batches import Form, Kept, ScoreBatch, keep_predictions
from behaviorlm.scoring.adjustment_front import AdjustmentFront, adjustment_front
from behaviorlm.scoring.config import FRONT_TAUS
from behaviorlm.scoring.decision_rules import (
    adjusted_choices,
    logit_adjustment,
    per_token_mean,
    pointwise_mutual_information,
)
from behaviorlm.scoring.model_names import ADJUSTED, PER_TOKEN, PLAIN, PMI
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.rule_choice import ChosenRules, Rules, choose_rules


@dataclass(frozen=True)
class MeasuredPredictor:
    """A predictor on the test samples.

    outcomes: of the scores themselves. forms: outcomes under the rules that change the ranking, by the rule's name,
    those there are. chosen: None without validation samples. front, and front_choices, what is chosen at each point of
    it, int32[n, points]: None where they are not asked for.
    """

    outcomes: Outcomes
    forms: dict[str, Outcomes]
    chosen: ChosenRules | None
    front: AdjustmentFront | None = None
    front_choices: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Asked:
    """What is asked of a predictor. front: along its front, too; front_choices: keep what it chose there.

    told: gets what is kept of its test scores, more than is measured.
    """

    front: bool = True
    front_choices: bool = False
    told: Callable[[Kept], None] | None = None


def measure_predictor(scores: ArmScores, rules: Rules, asked: Asked) -> MeasuredPredictor:
    """Measure a predictor on the samples that the rules are of."""
    facts = rules.facts
    chosen = choose_rules(scores, rules) if len(facts.validation) else None

    def along_the_front(batch: ScoreBatch) -> NDArray[np.int32]:
        return adjusted_choices(batch.label_scores, facts.prior, FRONT_TAUS)

    kept = keep_predictions(
        scores.test(),
        facts.targets,
        len(facts.vocabulary),
        dict(_forms(scores, chosen, rules)),
        along_the_front if asked.front else None,
        scores.own_mix,
    )
    if asked.told is not None:
        asked.told(kept)
    if kept.choices is None:
        return MeasuredPredictor(kept.outcomes, kept.forms, chosen)
    front = adjustment_front(kept.choices, facts.targets, facts.vocabulary.is_anchor)
    choices = kept.choices if asked.front_choices else None
    return MeasuredPredictor(kept.outcomes, kept.forms, chosen, front, choices)


def _forms(scores: ArmScores, chosen: ChosenRules | None, rules: Rules) -> Iterator[tuple[str, Form]]:
    """The further rules that there are, in the order of the tables."""
    alone = scores.without_history
    if alone is not None:
        yield PMI, Form(lambda batch: pointwise_mutual_information(batch.label_scores, alone(batch.places)))
        if scores.counts_tokens:
            yield PER_TOKEN, Form(lambda batch: per_token_mean(batch.label_scores, rules.label_lengths))
    if chosen is None:
        return
    for name, rule in chosen.rules.items():
        if name == ADJUSTED:
            yield name, Form(partial(_adjusted, rules, chosen.tau.tau), is_decision=True)
        elif name != PLAIN:
            yield name, Form(partial(rules.scores, rule), is_decision=True)


def _adjusted(rules: Rules, tau: float, batch: ScoreBatch) -> NDArray[np.float32]:
    return logit_adjustment(batch.label_scores, rules.facts.prior, tau)
