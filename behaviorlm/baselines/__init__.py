"""What any method has to beat: predictions by counting, on the same samples and the same context."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import (
    MostFrequent,
    PerUserFrequency,
    fit_most_frequent,
    fit_per_user_frequency,
)
from behaviorlm.baselines.markov import Markov, fit_bigram, fit_markov
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.errors import DataError


class Baseline(Protocol):
    """A fitted baseline."""

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K] of the behavior at each row, from what lies before it.

        Those of a row do not depend on which other rows are asked for, so a log may be asked about in slices.
        """
        ...


def fit_baselines(timelines: TimelineArrays) -> dict[str, Baseline]:
    """Every baseline by name, fitted on the training events; weights chosen on validation, never on test.

    `markov_order_3_context` also conditions on the context known before the event; it is there if the log has
    any. Raises DataError without training events.
    """
    if not len(timelines.training_rows()):
        raise DataError("baselines need training events, and the timelines have none; check the split")
    fitted: dict[str, Baseline] = {
        "most_frequent": fit_most_frequent(timelines),
        "per_user_frequency": fit_per_user_frequency(timelines),
        "bigram": fit_bigram(timelines),
    }
    for order in (1, 2, 3):
        fitted[f"markov_order_{order}"] = fit_markov(timelines, order)
    if timelines.contexts > 1:
        fitted["markov_order_3_context"] = fit_markov(timelines, 3, use_context=True)
    return fitted


__all__ = [
    "Baseline",
    "Markov",
    "MostFrequent",
    "PerUserFrequency",
    "TimelineArrays",
    "fit_baselines",
    "fit_bigram",
    "fit_markov",
    "fit_most_frequent",
    "fit_per_user_frequency",
    "timeline_arrays",
]
