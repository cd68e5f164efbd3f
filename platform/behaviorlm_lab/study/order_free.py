"""What the negative control is held against: counting by user and clock, to which the order of events means nothing."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import fit_per_user_frequency
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import ScoreBatch
from behaviorlm.scoring.model_names import DECISION_RULES, PLAIN
from behaviorlm_ray.evaluation.counted_log import counted_log
from behaviorlm_ray.evaluation.measured import Asked, measure_predictor
from behaviorlm_ray.evaluation.predictors import ArmScores, at_natural_prior
from behaviorlm_ray.evaluation.rule_choice import Rules
from behaviorlm_ray.evaluation.samples import sample_facts
from behaviorlm_ray.pipeline.predict import evaluated_samples
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog

Float64 = NDArray[np.float64]

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMOOTHING = (5.0, 20.0, 80.0, 320.0)
"""Of what the clock adds, and events that the training shares stand for in each hour of the week; by likelihood."""


def by_user_and_clock(timelines: TimelineArrays, validation: NDArray[np.int64]) -> "partial[Float64]":
    """Log scores float64[n, K] of rows of the log: p(b | user's past) · (p(b | clock) / p(b))^strength.

    Strength and smoothing are those under which the behaviors of the validation rows are most likely.
    """
    by_user = fit_per_user_frequency(timelines)
    rows = timelines.training_rows()
    counts = np.zeros((timelines.contexts, timelines.behaviors))
    np.add.at(counts, (timelines.context[rows], timelines.behavior[rows]), 1.0)

    def said(strength: float, smoothing: float, asked: NDArray[np.int64]) -> Float64:
        there = counts[timelines.context[asked]]
        lift = (there + smoothing * by_user.prior) / (there.sum(axis=1, keepdims=True) + smoothing)
        own = by_user.predict(timelines, asked).astype(np.float64)
        return own + strength * (np.log(lift) - np.log(by_user.prior))

    known = validation[timelines.behavior[validation] >= 0]
    targets = timelines.behavior[known]

    def likelihood(pair: tuple[float, float]) -> float:
        found = normalize_label_scores(said(*pair, known).astype(np.float32))
        return float(found[np.arange(len(known)), targets].mean())

    return partial(said, *max(product(STRENGTHS, SMOOTHING), key=likelihood))


def order_free(log: PreparedLog, settings: RunSettings) -> dict[str, tuple[float, NDArray[np.int64]]]:
    """What it chose on the test samples under each decision rule, chosen like those of every predictor, by the rule,
    with the rule's objective on validation.
    """
    samples = evaluated_samples(log, settings)
    counted, facts = counted_log(log, samples), sample_facts(log, samples)
    said = by_user_and_clock(counted.timelines, counted.validation)

    def batches(asked: NDArray[np.int64]) -> Iterator[ScoreBatch]:
        yield ScoreBatch(np.arange(len(asked)), said(asked).astype(np.float32))

    scores = ArmScores(partial(batches, counted.validation), partial(batches, counted.test))
    rules = Rules(facts, log.prompt, settings.evaluation.tau, settings.evaluation.tail_minimum_targets)
    natural = at_natural_prior(scores, facts.to_natural(counted.mix))
    measured = measure_predictor(natural, rules, Asked(front=False))
    assert measured.chosen is not None
    forms = {PLAIN: measured.outcomes, **measured.forms}
    return {
        rule: (measured.chosen.objectives[rule] or 0.0, forms[rule].predicted.astype(np.int64))
        for rule in DECISION_RULES
    }
