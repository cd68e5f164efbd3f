"""Evaluation: every model and baseline on the same samples, with intervals, paired comparisons and tables.

Choices (the strength of logit adjustment, the weights of baselines) are made on validation; test is only measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from behaviorlm.baselines import fit_baselines, timeline_arrays
from behaviorlm.errors import DataError
from behaviorlm.metrics import (
    bootstrap,
    measure_outcomes,
    outcomes,
    paired_difference,
    per_behavior_table,
    reliability,
)
from behaviorlm.metrics.front import endpoint_area
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.scoring.config import FRONT_TAUS, TAIL_MINIMUM_TARGETS
from behaviorlm.scoring.decision_rules import (
    anchor_tail_objective,
    choose_tau,
    log_prior,
    logit_adjustment,
    per_token_mean,
    pointwise_mutual_information,
)
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_lab.truth.oracle import (
    Truth,
    TruthSettings,
    ceiling,
    check_against_truth,
    expected_endpoint,
    expected_under_truth,
    true_probabilities,
)
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, count, gather, group_names

PRIMARY = (("anchor", "accuracy"), ("tail", "macro_recall_at_least_10"))
"""The primary endpoint of the project."""
ENDPOINT = ("anchor_accuracy", "tail_macro_recall")
"""Its names where it stands alone."""


@dataclass(frozen=True)
class EvaluatedSamples:
    """The validation and test samples that every model is asked about."""

    validation: SampleRows
    test: SampleRows


@dataclass(frozen=True)
class Comparison:
    """What evaluation found; `results` has the form of results.json, `details` of details.json."""

    results: dict[str, Any]
    details: dict[str, Any]
    warnings: list[str]


def evaluate(
    log: PreparedLog,
    samples: EvaluatedSamples,
    scores: Mapping[str, Mapping[str, np.ndarray]],
    *,
    tau_grid: Sequence[float],
    resamples: int,
    seed: int,
    tail_minimum_targets: int = TAIL_MINIMUM_TARGETS,
    truth: TruthSettings | None = None,
) -> Comparison:
    """Compare models and baselines.

    scores: for each model {"validation": float32 [v, K], "test": float32 [n, K]}, and for the untuned one
    "without_history" [n, K], which adds its PMI form and its mean per token. Each model is reported with logit
    adjustment as well, tau chosen on validation by `anchor_tail_objective`, and with its front (`adjustment_front`).
    truth: the synthetic world of the log; a model beyond what can be known raises DataError.
    """
    vocabulary = log.vocabulary
    targets = gather(log, samples.test, "behavior")
    is_repeat = gather(log, samples.test, "is_repeat")
    groups = group_names(log, samples.test)
    measured: dict[str, Outcomes] = {}
    tau: dict[str, float] = {}
    validation: dict[str, dict[str, float | None]] = {}
    fronts: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    known = None if truth is None else true_probabilities(log, samples.test, truth)
    for name, label_scores in baseline_scores(log, samples.test).items():
        measured[name] = outcomes(label_scores, targets)
    prior = log_prior(vocabulary.counts)
    validation_targets = gather(log, samples.validation, "behavior")
    for name, by_split in scores.items():
        measured[name] = outcomes(by_split["test"], targets)
        if "without_history" in by_split:
            alone = pointwise_mutual_information(by_split["test"], by_split["without_history"])
            measured[f"{name}+pmi"] = outcomes(alone, targets)
            lengths = np.array([len(label) for label in labels_with_terminator(log.prompt)])
            measured[f"{name}+per_token"] = outcomes(per_token_mean(by_split["test"], lengths), targets)
        if len(validation_targets):
            choice = choose_tau(
                by_split["validation"],
                validation_targets,
                vocabulary.is_anchor,
                prior,
                tau_grid,
                tail_minimum_targets,
            )
            tau[name] = choice.tau
            validation[name] = {"plain": choice.plain, "adjusted": choice.objective}
            measured[f"{name}+adjusted"] = outcomes(
                logit_adjustment(by_split["test"], prior, choice.tau), targets
            )
            if choice.objective is None:
                warnings.append(
                    f"{name}: tau was not chosen: the validation samples have no anchor target or no tail behavior "
                    f"with {tail_minimum_targets} targets; raise split.validation"
                )
        fronts[name] = adjustment_front(by_split["test"], targets, vocabulary.is_anchor, prior, known)
    models = {
        name: bootstrap(model, vocabulary.is_anchor, groups, is_repeat, resamples=resamples, seed=seed)
        for name, model in measured.items()
    }
    best: dict[str, float] | None = None
    truth_details: dict[str, Any] | None = None
    in_expectation: dict[str, Any] | None = None
    if known is not None:
        best, truth_details = ceiling(known, vocabulary.is_anchor, targets)
        check_against_truth(known, vocabulary.is_anchor, measured)
        of_models = expected_under_truth(known, vocabulary.is_anchor, measured)
        truth_details["models"] = of_models
        in_expectation = {
            "bound": {
                "anchor_accuracy": best["anchor"],
                "tail_macro_recall": truth_details["tail_macro_recall"]["expected"],
            },
            "models": {name: {key: of[key] for key in ENDPOINT} for name, of in of_models.items()},
        }
    on_validation = {
        name: anchor_tail_objective(
            by_split["validation"], validation_targets, vocabulary.is_anchor, tail_minimum_targets
        )
        for name, by_split in scores.items()
        if len(validation_targets)
    }
    results = {
        "ceiling": best,
        "in_expectation": in_expectation,
        "models": models,
        "validation": on_validation,
        "samples": _sample_counts(log, samples, targets, is_repeat),
    }
    details = {
        "tau": tau,
        "validation": validation,
        "fronts": fronts,
        "truth": truth_details,
        "comparisons": _comparisons(
            measured, list(scores), vocabulary.is_anchor, groups, is_repeat, resamples, seed
        ),
        "per_behavior": {
            name: _rows(per_behavior_table(model, vocabulary.names, vocabulary.is_anchor, vocabulary.counts))
            for name, model in measured.items()
        },
        "reliability": {name: _rows(reliability(model)) for name, model in measured.items()},
    }
    return Comparison(results, details, warnings)


def validation_metrics(
    log: PreparedLog,
    validation: SampleRows,
    label_scores: np.ndarray,
    tail_minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> dict[str, float | None]:
    """The objective of a search and its parts (`anchor_tail_objective`) on validation samples.

    label_scores: float32 [v, K] in the order of the rows. Raises DataError where a part has nothing to measure.
    """
    if not count(validation):
        raise DataError("a search chooses on validation samples, and there are none; raise split.validation")
    targets = gather(log, validation, "behavior")
    found = anchor_tail_objective(label_scores, targets, log.vocabulary.is_anchor, tail_minimum_targets)
    if found["objective"] is None:
        missing = [f"an anchor target ({ENDPOINT[0]})"] if found[ENDPOINT[0]] is None else []
        if found[ENDPOINT[1]] is None:
            missing.append(f"a tail behavior with {tail_minimum_targets} targets ({ENDPOINT[1]})")
        raise DataError(
            f"a search compares anchors and tail, and its {len(targets)} validation samples lack "
            f"{' and '.join(missing)}; raise split.validation or evaluation.max_validation_samples"
        )
    return found


def adjustment_front(
    label_scores: np.ndarray,
    targets: np.ndarray,
    is_anchor: np.ndarray,
    prior: np.ndarray,
    truth: Truth | None = None,
) -> dict[str, Any]:
    """The primary endpoint of one model at every strength of logit adjustment, and the areas under its front.

    {"points": [{"tau", "anchor_accuracy", "tail_macro_recall", "expected"}], "area", "expected_area"}. `expected`:
    {"anchor_accuracy", "tail_macro_recall"} of the same choices in expectation under p*; None without a truth. A
    number is None where nothing counts.
    """
    points: list[dict[str, Any]] = []
    for tau in FRONT_TAUS:
        found = outcomes(logit_adjustment(label_scores, prior, tau), targets)
        groups = measure_outcomes(found, is_anchor)
        drawn = {key: groups[group][metric] for key, (group, metric) in zip(ENDPOINT, PRIMARY, strict=True)}
        expected = None if truth is None else expected_endpoint(truth, is_anchor, found.predicted)
        points.append({"tau": tau, **drawn, "expected": expected})
    return {
        "points": points,
        "area": endpoint_area(points),
        "expected_area": endpoint_area([point["expected"] for point in points if point["expected"]]),
    }


def baseline_scores(log: PreparedLog, rows: SampleRows) -> dict[str, np.ndarray]:
    """Log-probabilities of every baseline for the chosen samples; float32 [n, K] by name.

    Baselines see what the models see: the events before the sample and its `context_before`.
    """
    columns = ["user", "position", "behavior", "split", "is_target"]
    columns += [name for name in log.parts[0].table.column_names if name.startswith("before.")]
    table = pa.concat_tables([part.table.select(columns) for part in log.parts]).combine_chunks()
    timelines = timeline_arrays(table, log.vocabulary.names)
    starts = np.cumsum([0, *(len(part) for part in log.parts)])
    asked = np.concatenate([chosen + start for chosen, start in zip(rows, starts[:-1], strict=True)])
    return {name: baseline.predict(timelines, asked) for name, baseline in fit_baselines(timelines).items()}


def _sample_counts(
    log: PreparedLog, samples: EvaluatedSamples, targets: np.ndarray, is_repeat: np.ndarray
) -> dict[str, Any]:
    is_anchor = np.append(log.vocabulary.is_anchor, False)[targets]
    return {
        "all": len(targets),
        "anchor": int(is_anchor.sum()),
        "tail": int((~is_anchor).sum()),
        "unseen": int((targets < 0).sum()),
        "repeats": int(is_repeat.sum()),
        "changes": int((~is_repeat).sum()),
        "validation": sum(len(chosen) for chosen in samples.validation),
        "groups": len(np.unique(group_names(log, samples.test))),
    }


def _comparisons(
    measured: Mapping[str, Outcomes],
    models: Sequence[str],
    is_anchor: np.ndarray,
    groups: np.ndarray,
    is_repeat: np.ndarray,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One model, A+B where it is compared and else the last arm, against every other one on the endpoint."""
    subject = "ab_tuned" if "ab_tuned" in models else models[-1] if models else ""
    pairs = [(subject, name) for name in measured if name != subject and subject]
    result = []
    for first, second in pairs:
        difference = paired_difference(
            measured[first], measured[second], is_anchor, groups, is_repeat, resamples=resamples, seed=seed
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


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()
