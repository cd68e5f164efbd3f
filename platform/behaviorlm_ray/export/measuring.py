"""What an exported predictor is worth: calibration and coverage on validation, its metrics on the test part."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.coverage import coverage_curve
from behaviorlm.metrics.intervals import percentile_intervals, resample
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.outcomes import Outcomes, outcomes
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, keep
from behaviorlm.predictor.answers import calibrated
from behaviorlm.predictor.artifact import Calibration, Intervals, Threshold
from behaviorlm_ray.export.choice import Chosen, Measured

THRESHOLDS = tuple(step / 20 for step in range(20))
CALIBRATED_ON = 4_000_000
"""Log probabilities that calibration looks at, at most; so many validation samples are taken, evenly over all."""
LEAST_SAMPLES = 50
"""Validation samples of each group without which probabilities stay as they are (our choice)."""


def fit_calibration(measured: Measured, chosen: Chosen) -> Calibration | None:
    """The calibration under which the validation targets are most likely; None with too few of them."""
    targets, is_anchor = measured.run.facts.validation, measured.run.facts.vocabulary.is_anchor
    known = np.flatnonzero(targets >= 0)
    of_anchor = int(is_anchor[targets[known]].sum())
    if min(of_anchor, len(known) - of_anchor) < LEAST_SAMPLES:
        return None
    number = max(1, CALIBRATED_ON // len(is_anchor))
    taken = known[np.unique(np.linspace(0, len(known) - 1, min(number, len(known))).astype(np.int64))]
    place = np.full(len(targets), -1, np.int64)
    place[taken] = np.arange(len(taken))
    log_probabilities = np.empty((len(taken), len(is_anchor)))
    for batch in measured.scores(chosen).validation():
        of = place[batch.places]
        log_probabilities[of[of >= 0]] = normalize_label_scores(batch.label_scores)[of >= 0]
    weights = measured.run.facts.validation_weights[taken]
    return most_likely(log_probabilities, targets[taken], is_anchor, weights)


def most_likely(
    log_probabilities: NDArray[np.float64],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    weights: NDArray[np.float64] | None = None,
) -> Calibration:
    """Of log probabilities float64[n, K] and targets int[n], by negative log-likelihood; temperatures from .1 to 10.

    weights: how many samples each stands for, float64[n]; None: one.
    """
    from scipy.optimize import minimize  # takes a while to load

    rows = np.arange(len(targets))

    def of(values: NDArray[np.float64]) -> Calibration:
        anchor, tail = np.exp(values[:2]).tolist()
        return Calibration(anchor_temperature=anchor, tail_temperature=tail, tail_shift=float(values[2]))

    def loss(values: NDArray[np.float64]) -> float:
        found = calibrated(log_probabilities, is_anchor, of(values))[rows, targets]
        return -float(np.average(found, weights=weights))

    widest = float(np.log(10))
    bounds = [(-widest, widest), (-widest, widest), (-5.0, 5.0)]
    return of(minimize(loss, np.zeros(3), method="L-BFGS-B", bounds=bounds).x)


def metrics_on_test(
    measured: Measured, chosen: Chosen, calibration: Calibration | None
) -> tuple[Intervals, Intervals]:
    """Every metric on the run's test samples, with intervals: as it is served, and without calibration.

    Accuracies and ranks are those under the decision rule; confidence is the first answer's probability.
    """
    facts, evaluation = measured.run.facts, measured.run.settings.evaluation

    def reduce(batch: ScoreBatch) -> Arrays:
        log_probabilities = normalize_label_scores(batch.label_scores)
        found = outcomes(
            measured.ranked_by(chosen, log_probabilities), facts.targets[batch.places], batch.places
        )
        shown = calibrated(log_probabilities, facts.vocabulary.is_anchor, calibration)
        row = np.arange(len(shown))
        return {
            "predicted": found.predicted,
            "rank": found.rank,
            "served": np.exp(shown[row, found.predicted]),
            "plain": np.exp(log_probabilities[row, found.predicted]),
        }

    kept = keep(measured.scores(chosen).test(), len(facts.targets), reduce)
    served = Outcomes(facts.targets, kept["predicted"], kept["rank"], kept["served"], len(facts.vocabulary))
    both = [
        percentile_intervals(
            resample(
                one,
                facts.vocabulary.is_anchor,
                facts.groups,
                facts.is_repeat,
                resamples=evaluation.bootstrap_samples,
                seed=evaluation.seed,
            )
        )
        for one in (served, replace(served, confidence=kept["plain"]))
    ]
    return both[0], both[1]


def coverage(measured: Measured, chosen: Chosen, calibration: Calibration | None) -> list[Threshold]:
    """How many validation samples are answered, and how many of these rightly, by the least probability asked for."""
    targets, is_anchor = measured.run.facts.validation, measured.run.facts.vocabulary.is_anchor
    if not len(targets):
        return []

    def reduce(batch: ScoreBatch) -> Arrays:
        log_probabilities = normalize_label_scores(batch.label_scores)
        ranked_by = measured.ranked_by(chosen, log_probabilities)
        found = outcomes(ranked_by, targets[batch.places], batch.places)
        shown = calibrated(log_probabilities, is_anchor, calibration)
        return {"rank": found.rank, "probability": np.exp(shown[np.arange(len(shown)), found.predicted])}

    found = keep(measured.scores(chosen).validation(), len(targets), reduce)
    return thresholds(found["probability"], found["rank"], measured.run.facts.validation_weights)


def thresholds(
    probability: NDArray[np.float64],
    rank: NDArray[np.integer],
    weights: NDArray[np.float64] | None = None,
) -> list[Threshold]:
    """The curve as an artifact stores it; see `coverage_curve`."""
    return [Threshold(**vars(point)) for point in coverage_curve(probability, rank, THRESHOLDS, weights)]
