"""Evaluation: every model and baseline on the same samples, with intervals, paired comparisons and tables.

Choices (decision rules, the weights of baselines and of a mixture, what is recommended) are made on validation; test is
only measured.
Label scores come in batches, and few numbers are kept of each sample and predictor; no scores of all samples are held.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from behaviorlm.metrics.intervals import Resampled, paired_difference, percentile_intervals, resample
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.metrics.score_batches import Kept
from behaviorlm.metrics.tables import per_behavior_table, reliability
from behaviorlm.predictor.artifact import FusedPredictor
from behaviorlm.scoring.config import TAIL_MINIMUM_TARGETS
from behaviorlm.scoring.model_names import (
    ADJUSTED,
    COUNTS,
    DECISION_RULES,
    PLAIN,
    WITH_COUNTS,
    model_name,
    split_model_name,
)
from behaviorlm_ray.evaluation.breakdowns import breakdowns, confusions
from behaviorlm_ray.evaluation.circumstances import Circumstances, circumstances
from behaviorlm_ray.evaluation.counted_log import counted_log
from behaviorlm_ray.evaluation.counting import Counting
from behaviorlm_ray.evaluation.examples import validation_losses
from behaviorlm_ray.evaluation.gains import with_gains
from behaviorlm_ray.evaluation.measured import Asked, MeasuredPredictor, measure_predictor
from behaviorlm_ray.evaluation.oracle import HeldAgainstTruth, TruthSettings
from behaviorlm_ray.evaluation.predictors import ArmScores, at_natural_prior
from behaviorlm_ray.evaluation.recommendation import Option, best, chosen_of, options, recommended
from behaviorlm_ray.evaluation.rule_choice import Rules
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION, EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.preparation.prepared_log import PreparedLog

PRIMARY = (("anchor", "accuracy"), ("tail", "macro_recall_at_least_10"))
"""The primary endpoint of the project."""

FEW_TAIL = 5
"""Tail behaviors below which a number of the tail says little (our choice)."""


@dataclass(frozen=True)
class Comparison:
    """What evaluation found; `results` has the form of results.json, `details` of details.json."""

    results: dict[str, Any]
    details: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn: so many resamples of groups, from a seed."""

    resamples: int
    seed: int


@dataclass(frozen=True)
class _Measured:
    """All that is told of the samples. predictors: baselines, counting as it is served, arms, opponents and the mixture
    of an arm.
    """

    facts: SampleFacts
    arms: list[str]
    opponents: list[str]
    predictors: dict[str, MeasuredPredictor]
    mixtures: dict[str, FusedPredictor]
    held: HeldAgainstTruth | None
    resampling: Resampling
    tail_minimum_targets: int

    @cached_property
    def outcomes(self) -> dict[str, Outcomes]:
        """Of every form of every predictor, in the order of the tables."""
        return {
            model_name(name, rule): outcomes
            for name, found in self.predictors.items()
            for rule, outcomes in {PLAIN: found.outcomes, **found.forms}.items()
        }

    @cached_property
    def resampled(self) -> dict[str, Resampled]:
        """The same, on the same resamples."""
        facts, drawn = self.facts, vars(self.resampling)
        is_anchor = facts.vocabulary.is_anchor
        return {
            name: resample(model, is_anchor, facts.groups, facts.is_repeat, **drawn)
            for name, model in self.outcomes.items()
        }

    @cached_property
    def compared(self) -> list[Option]:
        """What can be served, under each decision rule, with its gain over the safe choice."""
        served = (COUNTS, *self.arms, *self.mixtures)
        every = [option for name in served for option in _options(name, self.predictors[name])]
        right = {
            option.model: found.right[option.rule]
            for option in every
            if (found := self.predictors[option.predictor].chosen) is not None
        }
        return with_gains(every, right, self.facts, self.tail_minimum_targets, **vars(self.resampling))

    @property
    def recommended(self) -> str | None:
        """The model that is recommended of all that can be served."""
        winner = chosen_of(self.compared)
        return None if winner is None else winner.model

    @cached_property
    def preferred(self) -> dict[str, str]:
        """The model that validation prefers of each predictor, by predictor."""
        found = {name: best(_options(name, of)) for name, of in self.predictors.items()}
        return {name: option.model for name, option in found.items() if option is not None}

    @cached_property
    def looked_at(self) -> dict[str, Outcomes]:
        """What is told of in detail: each predictor plainly and under the rule that validation prefers for it, arms
        with logit adjustment, too, and what is recommended.
        """
        return {
            name: outcomes
            for name, outcomes in self.outcomes.items()
            if (of := split_model_name(name)).rule not in DECISION_RULES[1:]
            or name in self.preferred.values()
            or name == self.recommended
            or (of.predictor in self.arms and of.rule == ADJUSTED)
        }


def compare(
    log: PreparedLog,
    samples: EvaluatedSamples,
    scores: Mapping[str, ArmScores],
    *,
    tau_grid: Sequence[float],
    resampling: Resampling,
    tail_minimum_targets: int = TAIL_MINIMUM_TARGETS,
    truth: TruthSettings | None = None,
    told: Callable[[str, Kept], None] | None = None,
) -> Comparison:
    """Compare models, by name, and counting. Of opponents what validation prefers is never recommended or mixed.

    Each predictor is reported under each decision rule, as validation chooses it; each model with its front
    (`AdjustmentFront`), and the one that validation prefers mixed with counting, too. truth: the synthetic world of the
    log; a model beyond what can be known raises DataError. told: gets what is kept of each predictor on test, by name.
    """
    facts = sample_facts(log, samples)
    found = circumstances(log, samples.test, facts)
    counting = Counting(counted_log(log, samples), facts)
    rules = Rules(facts, log.prompt, tau_grid, tail_minimum_targets)
    known = None if truth is None else truth.open().about(log, samples.test)

    natural = {name: at_natural_prior(of, facts.to_natural(of.mix)) for name, of in scores.items()}
    predictors: dict[str, MeasuredPredictor] = {}
    asked_of: dict[str, ArmScores] = {}

    def measure(name: str, of: ArmScores) -> None:
        asked_of[name] = of
        listener = None if told is None else partial(told, name)
        is_model = name in scores
        asked = Asked(is_model, is_model and known is not None, listener)
        predictors[name] = measure_predictor(of, rules, asked)

    for name, of in {**counting.baselines(), COUNTS: counting.alone(), **natural}.items():
        measure(name, of)
    mixtures = {}
    arms = [name for name, of in scores.items() if of.is_served]
    winner = best([option for name in arms for option in _options(name, predictors[name])])
    if winner is not None:
        mixture, of = f"{winner.predictor}{WITH_COUNTS}", natural[winner.predictor]
        mixtures[mixture] = counting.best_mixture(of)
        measure(mixture, counting.with_model(of, mixtures[mixture]))
    opponents = [name for name in scores if name not in arms]
    measured = _Measured(facts, arms, opponents, predictors, mixtures, None, resampling, tail_minimum_targets)
    if known is not None:
        held = known.hold(
            {name: model.predicted for name, model in measured.outcomes.items()},
            {name: of.front_choices for name, of in predictors.items() if of.front_choices is not None},
        )
        measured = replace(measured, held=held)
    return Comparison(
        _results(measured),
        _details(measured)
        | {"breakdowns": _broken_down(found, measured, asked_of, {name: scores[name] for name in arms})},
        _warnings(measured, tail_minimum_targets),
    )


def _broken_down(
    found: Circumstances,
    measured: _Measured,
    asked_of: Mapping[str, ArmScores],
    arms: Mapping[str, ArmScores],
) -> dict[str, Any]:
    """Told in full of what is recommended, or of the first model; what is taken for what of the models."""
    subject = measured.recommended or next(iter([*measured.arms, *measured.predictors]))
    confused = {subject, *(measured.preferred.get(name, name) for name in measured.arms)}
    return breakdowns(
        found,
        measured.facts,
        measured.looked_at,
        subject,
        asked_of[split_model_name(subject).predictor],
    ) | {
        "confusions": {
            name: confusions(measured.outcomes[name]) for name in measured.outcomes if name in confused
        },
        "validation_loss": validation_losses(arms, measured.facts),
    }


def _options(name: str, predictor: MeasuredPredictor) -> list[Option]:
    return [] if predictor.chosen is None else options(name, predictor.chosen.objectives)


def _results(measured: _Measured) -> dict[str, Any]:
    facts, held = measured.facts, measured.held
    return {
        "recommended": recommended(measured.compared),
        "ceiling": None if held is None else held.ceiling,
        "in_expectation": None if held is None else _in_expectation(held),
        "models": {name: percentile_intervals(of) for name, of in measured.resampled.items()},
        "validation": {
            name: asdict(chosen.tau.plain)
            for name in measured.arms
            if (chosen := measured.predictors[name].chosen) is not None
        },
        "samples": _counts(facts),
    } | ({"opponents": measured.opponents} if measured.opponents else {})


def _counts(facts: SampleFacts) -> dict[str, int]:
    """How many samples there are of each kind."""
    anchors = np.append(facts.vocabulary.is_anchor, False)[facts.targets]
    return {
        "all": len(facts.targets),
        "anchor": int(anchors.sum()),
        "tail": int((~anchors).sum()),
        "unseen": int((facts.targets < 0).sum()),
        "repeats": int(facts.is_repeat.sum()),
        "changes": int((~facts.is_repeat).sum()),
        "validation": len(facts.validation),
        "validation_groups": len(np.unique(facts.validation_groups)),
        "groups": len(np.unique(facts.groups)),
    }


def _details(measured: _Measured) -> dict[str, Any]:
    vocabulary, held = measured.facts.vocabulary, measured.held
    chosen = {name: of.chosen for name, of in measured.predictors.items() if of.chosen is not None}
    truth = None
    fronts = {name: of.front for name, of in measured.predictors.items() if of.front is not None}
    if held is not None:
        truth = held.details | {"models": {name: asdict(of) for name, of in held.expected.items()}}
        fronts = {
            name: replace(front, expected=tuple(of_point.endpoint for of_point in held.fronts[name]))
            for name, front in fronts.items()
        }
    return {
        "tau": {name: of.tau.tau for name, of in chosen.items()},
        "rules": {
            name: {rule: found.model_dump(mode="json") for rule, found in of.rules.items()}
            for name, of in chosen.items()
        },
        "mixtures": {name: of.model_dump(mode="json") for name, of in measured.mixtures.items()},
        "validation": {name: of.objectives for name, of in chosen.items()},
        "fronts": {name: front.to_json() for name, front in fronts.items()},
        "truth": truth,
        "comparisons": _comparisons(measured),
        "per_behavior": {
            name: per_behavior_table(
                model, vocabulary.names, vocabulary.is_anchor, vocabulary.counts
            ).to_pylist()
            for name, model in measured.looked_at.items()
        },
        "reliability": {name: reliability(model).to_pylist() for name, model in measured.looked_at.items()},
    }


def _in_expectation(held: HeldAgainstTruth) -> dict[str, Any]:
    """What the tables show of the truth: the bound and each model's endpoint in expectation."""
    return {
        "bound": {"anchor_accuracy": held.ceiling["anchor"], "tail_macro_recall": held.tail_macro_recall},
        "models": {name: asdict(of.endpoint) for name, of in held.expected.items()},
    }


def _warnings(measured: _Measured, minimum: int) -> list[str]:
    if not len(measured.facts.validation):
        return [WITHOUT_VALIDATION]
    if any(option.objective is not None for option in measured.compared):
        return _choice_of_few(measured.facts, minimum)
    return [
        "no rule was chosen: the validation samples have no anchor target or no tail behavior with "
        f"{minimum} targets; raise split.validation"
    ]


def _choice_of_few(facts: SampleFacts, minimum: int) -> list[str]:
    """What choices rest on, where it is little."""
    is_tail = ~facts.vocabulary.is_anchor
    counts = np.bincount(facts.validation[facts.validation >= 0], minlength=len(is_tail))
    counted, tail = int((counts[is_tail] >= max(minimum, 1)).sum()), int(is_tail.sum())
    if counted >= min(FEW_TAIL, tail):
        return []
    return [
        f"what is recommended was chosen by {counted} of {tail} tail behaviors only, those with {minimum} validation "
        "targets; raise split.validation or evaluation.max_validation_samples"
    ]


def _comparisons(measured: _Measured) -> list[dict[str, Any]]:
    """One model, A+B where it is compared and else the last arm, against every other one on the endpoint; and what is
    recommended against what validation prefers of each other predictor.
    """
    models = measured.arms
    subject = "ab_tuned" if "ab_tuned" in models else models[-1] if models else ""
    pairs = [(subject, name) for name in measured.looked_at] if subject else []
    if measured.recommended is not None:
        pairs += [(measured.recommended, name) for name in measured.preferred.values()]
    return [
        found
        for first, second in dict.fromkeys(pairs)
        if first != second
        for found in _pair(measured, first, second)
    ]


def _pair(measured: _Measured, first: str, second: str) -> list[dict[str, Any]]:
    """first − second on the endpoint and on accuracy."""
    difference = paired_difference(measured.resampled[first], measured.resampled[second])
    return [
        {
            "first": first,
            "second": second,
            "group": group,
            "metric": metric,
            "difference": found["value"],
            "low": found["low"],
            "high": found["high"],
            "p_value": found["p"],
        }
        for group, metric in (("all", "accuracy"), *PRIMARY)
        for found in [difference[group][metric]]
    ]
