"""Tables behind the headline numbers: one row per behavior, and the bins of the reliability diagram."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.metrics.measures import CALIBRATION_BINS, behavior_counts, calibration_bin
from behaviorlm.metrics.outcomes import Outcomes


def per_behavior_table(
    model_outcomes: Outcomes,
    names: Sequence[str],
    is_anchor: NDArray[np.bool_],
    training_counts: NDArray[np.integer],
) -> pa.Table:
    """One row per behavior of the vocabulary, in its order; a last row with a null name for unseen targets.

    Columns: behavior, is_anchor, training_targets, targets, predicted, correct, precision, recall, f1, mrr.
    Precision is null where nothing was predicted, recall and mrr where there is no target, f1 where neither.
    The row for unseen targets is there only if there are any.
    """
    everything = np.ones(len(model_outcomes), bool)
    counts = behavior_counts(model_outcomes, np.ones((1, 1)), np.zeros(len(everything), np.int64), everything)
    targets, predicted, correct = counts.targets[0], counts.predicted[0], counts.correct[0]
    reciprocal = np.where(model_outcomes.rank < 0, 0.0, 1.0 / (np.maximum(model_outcomes.rank, 0) + 1))
    place = np.where(model_outcomes.target < 0, model_outcomes.behaviors, model_outcomes.target)
    reciprocal_sums = np.bincount(place, reciprocal, minlength=model_outcomes.behaviors + 1)
    table = pa.table(
        {
            "behavior": pa.array([*names, None], pa.string()),
            "is_anchor": np.append(is_anchor, False),
            "training_targets": np.append(training_counts, 0).astype(np.int64),
            "targets": targets.astype(np.int64),
            "predicted": predicted.astype(np.int64),
            "correct": correct.astype(np.int64),
            "precision": _ratio(correct, predicted),
            "recall": _ratio(correct, targets),
            "f1": _ratio(2 * correct, targets + predicted),
            "mrr": _ratio(reciprocal_sums, targets),
        }
    )
    return table if targets[-1] > 0 else table.slice(0, len(names))


def reliability(model_outcomes: Outcomes) -> pa.Table:
    """The bins of the reliability diagram, lowest bin first.

    Columns: low, high (edges of the confidence), samples, mean_confidence, accuracy (both null in an empty
    bin).
    """
    confidence = model_outcomes.confidence
    bins = calibration_bin(confidence)
    samples = np.bincount(bins, minlength=CALIBRATION_BINS).astype(np.float64)
    correct = (model_outcomes.rank == 0).astype(np.float64)
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    return pa.table(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "samples": samples.astype(np.int64),
            "mean_confidence": _ratio(np.bincount(bins, confidence, minlength=CALIBRATION_BINS), samples),
            "accuracy": _ratio(np.bincount(bins, correct, minlength=CALIBRATION_BINS), samples),
        }
    )


def _ratio(numerator: NDArray[np.number], denominator: NDArray[np.float64]) -> pa.Array:
    values = np.divide(numerator, denominator, out=np.zeros(len(denominator)), where=denominator > 0)
    return pa.array(values, mask=denominator <= 0)
