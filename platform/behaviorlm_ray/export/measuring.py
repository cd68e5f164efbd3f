"""What an exported predictor is worth: its metrics on the test part, and coverage against precision on validation."""

import numpy as np

from behaviorlm.metrics import bootstrap
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, keep, keep_predictions
from behaviorlm.predictor.artifact import Intervals, LogitAdjusted, Threshold
from behaviorlm.scoring.decision_rules import logit_adjustment
from behaviorlm_ray.export.choice import Chosen, Measured

THRESHOLDS = tuple(step / 20 for step in range(20))


def metrics_on_test(measured: Measured, chosen: Chosen) -> Intervals:
    """Every metric of the chosen predictor under its rule, with intervals, on the run's test samples."""
    facts, evaluation = measured.run.facts, measured.run.settings.evaluation
    batches = measured.batches(chosen, measured.run.samples.test, validation=False)
    form = {"decided": lambda batch: _decided(batch, measured, chosen)}
    found = keep_predictions(batches(), facts.targets, len(facts.vocabulary), form).forms["decided"]
    return bootstrap(
        found,
        facts.vocabulary.is_anchor,
        facts.groups,
        facts.is_repeat,
        resamples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )


def coverage(measured: Measured, chosen: Chosen) -> list[Threshold]:
    """How many validation samples are answered, and how many of these rightly, by the least probability asked for."""
    targets = measured.run.facts.validation
    if not len(targets):
        return []

    def reduce(batch: ScoreBatch) -> Arrays:
        first = _decided(batch, measured, chosen).argmax(axis=1)
        probability = np.exp(normalize_label_scores(batch.label_scores))[np.arange(len(first)), first]
        return {"first": first, "probability": probability}

    batches = measured.batches(chosen, measured.run.samples.validation, validation=True)
    found = keep(batches(), len(targets), reduce)
    is_right = found["first"] == targets
    answered = [found["probability"] >= threshold for threshold in THRESHOLDS]
    return [
        Threshold(
            min_probability=threshold,
            coverage=float(chosen_ones.mean()),
            precision=float(is_right[chosen_ones].mean()) if chosen_ones.any() else None,
        )
        for threshold, chosen_ones in zip(THRESHOLDS, answered, strict=True)
    ]


def _decided(batch: ScoreBatch, measured: Measured, chosen: Chosen) -> np.ndarray:
    """Scores under the predictor's rule; float32[b, K]."""
    if isinstance(chosen.rule, LogitAdjusted):
        return logit_adjustment(batch.label_scores, measured.rules.prior, chosen.rule.tau)
    return batch.label_scores
