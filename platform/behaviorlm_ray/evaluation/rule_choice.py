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
from behaviorlm.scoring.rule_fitting import COARSE, Codes, FittedNumbers, Pair, fit_numbers, pair_codes
from behaviorlm.scoring.rule_terms import bayes_shift
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import SampleFacts


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
        """The endpoint's own rule. The tail behaviors T that it is about are those that count in the objective on
        validation, or are frequent enough in training to be expected to: one that a small validation part lacks by
        chance would never be answered otherwise. mix: see `ArmScores`.
        """
        targets, prior = self.facts.validation, self.facts.prior
        counts = np.bincount(targets[targets >= 0], minlength=len(prior))
        expected = np.exp(prior) * len(targets)
        is_counted = np.maximum(counts, expected) >= max(self.tail_minimum_targets, 1)
        return BayesRule(shift=bayes_shift(prior, mix, self.facts.vocabulary.is_anchor, is_counted).tolist())


@dataclass(frozen=True)
class ChosenRules:
    """The rules of a predictor, and what validation says of each, by the rule's name, the simplest first.

    Of the fitted one that is what cross-fitting says. tau: how that of logit adjustment was chosen.
    """

    rules: Mapping[str, DecisionRule]
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

    minimum = rules.tail_minimum_targets
    fitted = fit_numbers(codes_of, targets, vocabulary.is_anchor, facts.validation_folds, minimum)
    plain = Choices(targets, kept[PLAIN], len(vocabulary))
    tau = choose_tau(plain, kept[ADJUSTED], vocabulary.is_anchor, rules.tau_grid, minimum)
    by_bayes = Choices(targets, kept[BAYES], len(vocabulary))
    plain_rule = PlainRule() if own is None else OwnMixRule(shift=own.tolist())
    return ChosenRules(
        {PLAIN: plain_rule, BAYES: bayes, ADJUSTED: LogitAdjusted(tau=tau.tau), FITTED: _rule(fitted)},
        {
            PLAIN: tau.plain,
            BAYES: anchor_tail_objective(by_bayes, vocabulary.is_anchor, minimum),
            ADJUSTED: tau.chosen,
            FITTED: fitted.cross_fitted,
        },
        tau,
    )


def _rule(found: FittedNumbers) -> FittedRule:
    return FittedRule(tail_scale=found.tail_scale, tail_shift=found.tail_shift, tau=found.tau)
