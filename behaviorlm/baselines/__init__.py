"""What any method has to beat: predictions by counting, on the same samples and the same context."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import (
    MostFrequent,
    PerUserFrequency,
    fit_most_frequent,
    fit_per_user_frequency,
)
from behaviorlm.baselines.markov import Markov, count_histories, fit_bigram, fit_markov
from behaviorlm.baselines.per_user_markov import fit_per_user_markov
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.errors import DataError


class Baseline(Protocol):
    """A fitted baseline."""

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K] of the behavior at each row, from what lies before it.

        Those of a row do not depend on which other rows are asked for, so a log may be asked about in slices.
        """
        ...


WITH_CONTEXT = "markov_order_3_context"
"""Fitted only if the log has context known before the event."""


class BaselineKind(NamedTuple):
    """What the report says about a baseline, and what fits it.

    counts_history: it counts what the user did so far, which few shots leave whole. is_markov: it takes the
    `CountedHistories` of the log, too.
    """

    description: str
    fit: Callable[..., Baseline]
    counts_history: bool = False
    is_markov: bool = False


BASELINES: Mapping[str, BaselineKind] = {
    "most_frequent": BaselineKind("the most frequent behavior of the training targets", fit_most_frequent),
    "per_user_frequency": BaselineKind(
        "the user's own most frequent behavior so far", fit_per_user_frequency, counts_history=True
    ),
    "per_user_markov": BaselineKind(
        "what followed the last behavior most often in the user's own past, backed by the user's frequencies",
        fit_per_user_markov,
        counts_history=True,
    ),
    "bigram": BaselineKind("what followed the last behavior most often", fit_bigram, is_markov=True),
    "markov_order_1": BaselineKind(
        "interpolated back-off over the last behavior", partial(fit_markov, order=1), is_markov=True
    ),
    "markov_order_2": BaselineKind(
        "interpolated back-off over the last two behaviors", partial(fit_markov, order=2), is_markov=True
    ),
    "markov_order_3": BaselineKind(
        "interpolated back-off over the last three behaviors", partial(fit_markov, order=3), is_markov=True
    ),
    WITH_CONTEXT: BaselineKind(
        "the same, and over the context known before the event",
        partial(fit_markov, order=3, use_context=True),
        is_markov=True,
    ),
}
"""Every baseline by name, in the order of the tables."""


def fit_baselines(timelines: TimelineArrays) -> dict[str, Baseline]:
    """Every baseline by name, fitted on the training events; weights chosen on validation, never on test.

    Raises DataError without training events.
    """
    if not any(len(rows) for rows in timelines.training_blocks()):
        raise DataError("baselines need training events, and the timelines have none; check the split")
    with_context = timelines.contexts > 1
    counted = count_histories(timelines, 3, with_context)
    return {
        name: kind.fit(timelines, counted=counted) if kind.is_markov else kind.fit(timelines)
        for name, kind in BASELINES.items()
        if name != WITH_CONTEXT or with_context
    }


__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineKind",
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
