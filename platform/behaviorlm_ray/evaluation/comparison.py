"""Evaluation: every model and baseline on the same samples, with intervals, paired comparisons and tables.

Choices (the strength of logit adjustment, the weights of baselines) are made on validation; test is only measured.
Label scores come in batches, and few numbers are kept of each sample and predictor; no scores of all samples are held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from behaviorlm.metrics import bootstrap, paired_difference, per_behavior_table, reliability
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.metrics.score_batches import keep_predictions
from behaviorlm.scoring.config import TAIL_MINIMUM_TARGETS
from behaviorlm_ray.evaluation.arms import MeasuredArm, Rules, measure_arm
from behaviorlm_ray.evaluation.breakdowns import breakdowns
from behaviorlm_ray.evaluation.oracle import HeldAgainstTruth, TruthSettings
from behaviorlm_ray.evaluation.predictors import ArmScores, baseline_predictors
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION, EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.preparation.prepared_log import PreparedLog

PRIMARY = (("anchor", "accuracy"), ("tail", "macro_recall_at_least_10"))
"""The primary endpoint of the project."""


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
    """All that is told of the samples. outcomes: of every form of every predictor, in the order of the tables."""

    facts: SampleFacts
    outcomes: dict[str, Outcomes]
    arms: dict[str, MeasuredArm]
    held: HeldAgainstTruth | None
    resampling: Resampling


def compare(
    log: PreparedLog,
    samples: EvaluatedSamples,
    scores: Mapping[str, ArmScores],
    *,
    tau_grid: Sequence[float],
    resamples: int,
    seed: int,
    tail_minimum_targets: int = TAIL_MINIMUM_TARGETS,
    truth: TruthSettings | None = None,
) -> Comparison:
    """Compare models, by name, and baselines.

    Each model is reported with logit adjustment as well, tau chosen on validation by `anchor_tail_objective`, and with
    its front (`AdjustmentFront`). truth: the synthetic world of the log; a model beyond what can be known raises
    DataError.
    """
    facts = sample_facts(log, samples)
    known = None if truth is None else truth.open().about(log, samples.test)
    baselines = baseline_predictors(log, samples.test)
    rules = Rules(log.vocabulary, log.prompt, tau_grid, tail_minimum_targets)
    outcomes = {
        name: keep_predictions(batches(), facts.targets, len(facts.vocabulary)).outcomes
        for name, batches in baselines.items()
    }
    arms = {
        name: measure_arm(of_arm, facts.validation, facts.targets, rules, keep_front=known is not None)
        for name, of_arm in scores.items()
    }
    for name, arm in arms.items():
        outcomes |= {name: arm.outcomes, **{f"{name}+{form}": found for form, found in arm.forms.items()}}
    held = None
    if known is not None:
        held = known.hold(
            {name: model.predicted for name, model in outcomes.items()},
            {name: arm.front_choices for name, arm in arms.items() if arm.front_choices is not None},
        )
    measured = _Measured(facts, outcomes, arms, held, Resampling(resamples, seed))
    subject = "ab_tuned" if "ab_tuned" in arms else [*outcomes, *arms][-1]
    broken_down = breakdowns(log, samples.test, facts, outcomes, subject, scores, baselines)
    return Comparison(
        _results(measured),
        _details(measured) | {"breakdowns": broken_down},
        [
            *([] if len(facts.validation) else [WITHOUT_VALIDATION]),
            *(_nothing_to_choose_by(name, rules) for name, arm in arms.items() if _was_not_chosen(arm)),
        ],
    )


def _results(measured: _Measured) -> dict[str, Any]:
    facts, held = measured.facts, measured.held
    is_anchor = facts.vocabulary.is_anchor
    return {
        "ceiling": None if held is None else held.ceiling,
        "in_expectation": None if held is None else _in_expectation(held),
        "models": {
            name: bootstrap(model, is_anchor, facts.groups, facts.is_repeat, **vars(measured.resampling))
            for name, model in measured.outcomes.items()
        },
        "validation": {
            name: asdict(arm.choice.plain) for name, arm in measured.arms.items() if arm.choice is not None
        },
        "samples": _counts(facts),
    }


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
        "validation_groups": facts.validation_groups,
        "groups": len(np.unique(facts.groups)),
    }


def _details(measured: _Measured) -> dict[str, Any]:
    vocabulary, held, arms = measured.facts.vocabulary, measured.held, measured.arms
    choices = {name: arm.choice for name, arm in arms.items() if arm.choice is not None}
    truth = None
    fronts = {name: arm.front for name, arm in arms.items()}
    if held is not None:
        truth = held.details | {"models": {name: asdict(of) for name, of in held.expected.items()}}
        fronts = {
            name: replace(front, expected=tuple(of_point.endpoint for of_point in held.fronts[name]))
            for name, front in fronts.items()
        }
    return {
        "tau": {name: choice.tau for name, choice in choices.items()},
        "validation": {
            name: {"plain": choice.plain.objective, "adjusted": choice.chosen.objective}
            for name, choice in choices.items()
        },
        "fronts": {name: front.to_json() for name, front in fronts.items()},
        "truth": truth,
        "comparisons": _comparisons(measured),
        "per_behavior": {
            name: per_behavior_table(
                model, vocabulary.names, vocabulary.is_anchor, vocabulary.counts
            ).to_pylist()
            for name, model in measured.outcomes.items()
        },
        "reliability": {name: reliability(model).to_pylist() for name, model in measured.outcomes.items()},
    }


def _in_expectation(held: HeldAgainstTruth) -> dict[str, Any]:
    """What the tables show of the truth: the bound and each model's endpoint in expectation."""
    return {
        "bound": {"anchor_accuracy": held.ceiling["anchor"], "tail_macro_recall": held.tail_macro_recall},
        "models": {name: asdict(of.endpoint) for name, of in held.expected.items()},
    }


def _was_not_chosen(arm: MeasuredArm) -> bool:
    return arm.choice is not None and arm.choice.chosen.objective is None


def _nothing_to_choose_by(name: str, rules: Rules) -> str:
    return (
        f"{name}: tau was not chosen: the validation samples have no anchor target or no tail behavior "
        f"with {rules.tail_minimum_targets} targets; raise split.validation"
    )


def _comparisons(measured: _Measured) -> list[dict[str, Any]]:
    """One model, A+B where it is compared and else the last arm, against every other one on the endpoint."""
    facts, models = measured.facts, list(measured.arms)
    subject = "ab_tuned" if "ab_tuned" in models else models[-1] if models else ""
    result = []
    for name, outcomes in measured.outcomes.items():
        if not subject or name == subject:
            continue
        difference = paired_difference(
            measured.outcomes[subject],
            outcomes,
            facts.vocabulary.is_anchor,
            facts.groups,
            facts.is_repeat,
            **vars(measured.resampling),
        )
        for group, metric in (("all", "accuracy"), *PRIMARY):
            found = difference[group][metric]
            result.append(
                {
                    "first": subject,
                    "second": name,
                    "group": group,
                    "metric": metric,
                    "difference": found["value"],
                    "low": found["low"],
                    "high": found["high"],
                    "p_value": found["p"],
                }
            )
    return result
