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
from behaviorlm.metrics.score_batches import Kept, keep_predictions
from behaviorlm.scoring.config import TAIL_MINIMUM_TARGETS
from behaviorlm_ray.evaluation.arms import MeasuredArm, Rules, measure_arm
from behaviorlm_ray.evaluation.oracle import HeldAgainstTruth, TruthSettings
from behaviorlm_ray.evaluation.predictors import ArmScores, baseline_predictors
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION, EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.preparation.prepared_log import PreparedLog

PRIMARY = (("anchor", "accuracy"), ("tail", "macro_recall_at_least_10"))
"""The primary endpoint of the project."""


@dataclass(frozen=True)
class Comparison:
    """What evaluation found; `results` has the form of results.json, `details` of details.json.

    kept: what is kept of the predictions of each model and baseline, before any decision rule.
    """

    results: dict[str, Any]
    details: dict[str, Any]
    warnings: list[str]
    kept: dict[str, Kept]


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn: so many resamples of groups, from a seed."""

    resamples: int
    seed: int


def evaluate(
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
    kept = {
        name: keep_predictions(batches(), facts.targets, len(facts.vocabulary))
        for name, batches in baselines.items()
    }
    arms = {
        name: measure_arm(of_arm, facts.validation, facts.targets, rules, keep_front=known is not None)
        for name, of_arm in scores.items()
    }
    kept |= {name: arm.kept for name, arm in arms.items()}
    measured = _outcomes(kept)
    held = None
    if known is not None:
        held = known.hold(
            {name: model.predicted for name, model in measured.items()},
            {name: arm.kept.choices for name, arm in arms.items() if arm.kept.choices is not None},
        )
    resampling = Resampling(resamples, seed)
    return Comparison(
        _results(facts, measured, arms, held, resampling),
        _details(facts, measured, arms, held, resampling),
        [
            *([] if len(facts.validation) else [WITHOUT_VALIDATION]),
            *(_nothing_to_choose_by(name, rules) for name, arm in arms.items() if _was_not_chosen(arm)),
        ],
        kept,
    )


def _outcomes(kept: Mapping[str, Kept]) -> dict[str, Outcomes]:
    """The outcomes of every form of every predictor, in the order of the tables."""
    found: dict[str, Outcomes] = {}
    for name, of_predictor in kept.items():
        found[name] = of_predictor.outcomes
        found |= {f"{name}+{form}": of_form for form, of_form in of_predictor.forms.items()}
    return found


def _results(
    facts: SampleFacts,
    measured: Mapping[str, Outcomes],
    arms: Mapping[str, MeasuredArm],
    held: HeldAgainstTruth | None,
    resampling: Resampling,
) -> dict[str, Any]:
    is_anchor = facts.vocabulary.is_anchor
    return {
        "ceiling": None if held is None else held.ceiling,
        "in_expectation": None if held is None else _in_expectation(held),
        "models": {
            name: bootstrap(model, is_anchor, facts.groups, facts.is_repeat, **vars(resampling))
            for name, model in measured.items()
        },
        "validation": {
            name: asdict(arm.choice.plain) for name, arm in arms.items() if arm.choice is not None
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
        "groups": len(np.unique(facts.groups)),
    }


def _details(
    facts: SampleFacts,
    measured: Mapping[str, Outcomes],
    arms: Mapping[str, MeasuredArm],
    held: HeldAgainstTruth | None,
    resampling: Resampling,
) -> dict[str, Any]:
    vocabulary = facts.vocabulary
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
        "comparisons": _comparisons(measured, list(arms), facts, resampling),
        "per_behavior": {
            name: per_behavior_table(
                model, vocabulary.names, vocabulary.is_anchor, vocabulary.counts
            ).to_pylist()
            for name, model in measured.items()
        },
        "reliability": {name: reliability(model).to_pylist() for name, model in measured.items()},
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


def _comparisons(
    measured: Mapping[str, Outcomes],
    models: Sequence[str],
    facts: SampleFacts,
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """One model, A+B where it is compared and else the last arm, against every other one on the endpoint."""
    subject = "ab_tuned" if "ab_tuned" in models else models[-1] if models else ""
    pairs = [(subject, name) for name in measured if name != subject and subject]
    result = []
    for first, second in pairs:
        difference = paired_difference(
            measured[first],
            measured[second],
            facts.vocabulary.is_anchor,
            facts.groups,
            facts.is_repeat,
            **vars(resampling),
        )
        for group, metric in (("all", "accuracy"), *PRIMARY):
            found = difference[group][metric]
            result.append(
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
            )
    return result
