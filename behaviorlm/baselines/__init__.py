"""What any method has to beat: predictions by counting, on the same samples and the same context."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from behaviorlm.baselines.frequency import fit_most_frequent, fit_per_user_frequency
from behaviorlm.baselines.fusion import Fusion, fit_fusion
from behaviorlm.baselines.markov import count_histories, fit_bigram, fit_markov
from behaviorlm.baselines.per_user_markov import fit_per_user_markov
from behaviorlm.baselines.recency import fit_recency
from behaviorlm.baselines.time_of_day import HOUR, fit_time_of_day
from behaviorlm.baselines.timelines import Baseline, TimelineArrays
from behaviorlm.errors import DataError

WITH_CONTEXT = "markov_order_3_context"
FUSION = "rank_fusion"
FUSED = ("per_user_frequency", "per_user_markov", "recency", "time_of_day", "markov_order_3", WITH_CONTEXT)
"""What the fusion is of; of the last two only the latter where there is one."""


def _always(timelines: TimelineArrays) -> bool:
    return True


class BaselineKind(NamedTuple):
    """What the report says about a baseline, and what fits it.

    counts_history: it counts what the user did so far, which few shots leave whole. is_markov: it takes the
    `CountedHistories` of the log, too. is_possible: whether a log has what it needs.
    """

    description: str
    fit: Callable[..., Baseline]
    counts_history: bool = False
    is_markov: bool = False
    is_possible: Callable[[TimelineArrays], bool] = _always


def _fuse(timelines: TimelineArrays, fitted: Mapping[str, Baseline] = MappingProxyType({})) -> Fusion:
    """Of those that are fitted; others are. With few shots members that count all users keep their own mix in it."""
    names = [name for name in FUSED if BASELINES[name].is_possible(timelines)]
    if WITH_CONTEXT in names:
        names.remove("markov_order_3")
    return fit_fusion([fitted.get(name) or BASELINES[name].fit(timelines) for name in names], timelines)


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
    "recency": BaselineKind(
        "what the user did most recently, by how often what was done so long ago came next",
        fit_recency,
        counts_history=True,
    ),
    "time_of_day": BaselineKind(
        "the most frequent behavior at the hour of the day",
        fit_time_of_day,
        is_possible=lambda timelines: HOUR in timelines.context_columns,
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
        is_possible=lambda timelines: timelines.contexts > 1,
    ),
    FUSION: BaselineKind(
        "reciprocal-rank fusion of the user's own frequencies, transitions and recency, the hour, and back-off",
        _fuse,
        counts_history=True,
    ),
}
"""Every baseline by name, in the order of the tables."""


def fit_baselines(timelines: TimelineArrays) -> dict[str, Baseline]:
    """Every baseline by name, fitted on the training events; weights chosen on validation, never on test.

    Raises DataError without training events.
    """
    if not any(len(rows) for rows in timelines.training_blocks()):
        raise DataError("baselines need training events, and the timelines have none; check the split")
    counted = count_histories(timelines, 3, timelines.contexts > 1)
    found: dict[str, Baseline] = {}
    for name, kind in BASELINES.items():
        if name == FUSION:
            found[name] = _fuse(timelines, found)
        elif kind.is_possible(timelines):
            found[name] = kind.fit(timelines, counted=counted) if kind.is_markov else kind.fit(timelines)
    return found
