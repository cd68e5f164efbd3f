"""Every decision rule of one predictor, as validation chooses it, and what validation says of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.outcomes import Choices
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, first_choices, keep
from behaviorlm.predictor.rules import (
    BayesRule,
    DecisionRule,
    FittedRule,
    LogitAdjusted,
    OwnMixRule,
    PlainRule,
    rule_terms,
)
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.scoring.decision_rules import (
    AnchorTail,
    TauChoice,
    adjusted_choices,
    anchor_tail_objective,
    choose_tau,
)
from behaviorlm.scoring.model_names import ADJUSTED, BAYES, FITTED, PLAIN
from behaviorlm.scoring.rule_fitting import (
    COARSE,
    Codes,
    FittedNumbers,
    Pair,
    cross_fitted_tau,
    fit_numbers,
    pair_codes,
)
from behaviorlm.scoring.rule_terms import bayes_shift, chance_to_count
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import SampleFacts

NOBODY = -2
"""Chosen where the choice is wrong: no target."""
VOID = AnchorTail(None, None, None)


@dataclass(frozen=True)
class Rules:
    """What every predictor is decided by on these samples; tau is chosen from the grid on validation."""

    facts: SampleFacts
    prompt: PromptTokens
    tau_grid: Sequence[float]
    tail_minimum_targets: int

    @cached_property
    def label_lengths(self) -> NDArray[np.int64]:
        """Tokens of each label with its terminator; int64[K]."""
        return np.array([len(label) for label in labels_with_terminator(self.prompt)], np.int64)

    def scores(self, rule: DecisionRule, batch: ScoreBatch) -> NDArray[np.float64]:
        """What a rule ranks a batch by, float64[b, K]."""
        prior = self.facts.prior
        terms = rule_terms(rule, prior, self.facts.vocabulary.is_anchor, np.arange(len(prior)))
        return terms.scores(normalize_label_scores(batch.label_scores))

    def bayes(self, mix: NDArray[np.float64] | None) -> BayesRule:
        """The endpoint's own rule for as many samples as validation has: which of the tail count among them is as
        likely as training says. It looks at no validation target, as it is judged by them. mix: see `ArmScores`.
        """
        prior, samples = self.facts.prior, len(self.facts.validation)
        counts = chance_to_count(np.exp(prior), samples, max(self.tail_minimum_targets, 1))
        return BayesRule(shift=bayes_shift(prior, mix, self.facts.vocabulary.is_anchor, counts).tolist())


@dataclass(frozen=True)
class ChosenRules:
    """The rules of a predictor, and what validation says of each, by the rule's name, the simplest first.

    right: whether each validation sample is chosen rightly, bool[v]; of a rule with numbers, which were chosen on
    validation, that is what cross-fitting says, and None where it cannot. tau: how that of logit adjustment was chosen.
    """

    rules: Mapping[str, DecisionRule]
    right: Mapping[str, NDArray[np.bool_] | None]
    found: Mapping[str, AnchorTail]
    tau: TauChoice

    @property
    def objectives(self) -> dict[str, float | None]:
        """The mean of both parts by rule."""
        return {name: found.objective for name, found in self.found.items()}


def choose_rules(scores: ArmScores, rules: Rules) -> ChosenRules:
    """In two passes over the predictor's batches, of which a few small numbers a sample are kept."""
    facts, predictor, own = rules.facts, scores.validation, scores.own_mix
    vocabulary, targets, bayes = facts.vocabulary, facts.validation, rules.bayes(scores.mix)

    def codes(batch: ScoreBatch, pairs: Sequence[Pair]) -> Codes:
        log_probabilities = normalize_label_scores(batch.label_scores)
        of_batch = targets[batch.places]
        return pair_codes(log_probabilities, of_batch, vocabulary.is_anchor, facts.prior, pairs)

    def reduce(batch: ScoreBatch) -> Arrays:
        return {
            PLAIN: first_choices(batch, own),
            ADJUSTED: adjusted_choices(batch.label_scores, facts.prior, rules.tau_grid),
            BAYES: rules.scores(bayes, batch).argmax(axis=1).astype(np.int32),
            FITTED: codes(batch, COARSE),
        }

    kept = keep(predictor(), len(targets), reduce)

    def codes_of(pairs: Sequence[Pair]) -> Codes:
        if pairs == COARSE:
            return kept[FITTED]
        return keep(predictor(), len(targets), lambda batch: {FITTED: codes(batch, pairs)})[FITTED]

    is_anchor, folds, minimum = vocabulary.is_anchor, facts.validation_folds, rules.tail_minimum_targets
    fitted = fit_numbers(codes_of, targets, is_anchor, folds, minimum)
    plain = Choices(targets, kept[PLAIN], len(vocabulary))
    tau = choose_tau(plain, kept[ADJUSTED], is_anchor, rules.tau_grid, minimum)
    by_tau = kept[ADJUSTED] == targets[:, None]
    plain_rule = PlainRule() if own is None else OwnMixRule(shift=own.tolist())
    right = {
        PLAIN: kept[PLAIN] == targets,
        BAYES: kept[BAYES] == targets,
        ADJUSTED: cross_fitted_tau(by_tau, targets, is_anchor, folds, rules.tau_grid, minimum),
        FITTED: fitted.right,
    }

    def worth(found: NDArray[np.bool_] | None) -> AnchorTail:
        if found is None:
            return VOID
        return anchor_tail_objective(
            Choices(targets, np.where(found, targets, NOBODY), len(vocabulary)), is_anchor, minimum
        )

    return ChosenRules(
        {PLAIN: plain_rule, BAYES: bayes, ADJUSTED: LogitAdjusted(tau=tau.tau), FITTED: _rule(fitted)},
        right,
        {rule: worth(of_rule) for rule, of_rule in right.items()},
        tau,
    )


def _rule(found: FittedNumbers) -> FittedRule:
    return FittedRule(tail_scale=found.tail_scale, tail_shift=found.tail_shift, tau=found.tau)
