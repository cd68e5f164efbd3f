"""How well the next behavior was predicted, for all, anchor and tail behaviors, with intervals."""

from behaviorlm.metrics.intervals import (
    Resampled,
    measure_outcomes,
    paired_difference,
    percentile_intervals,
    resample,
)
from behaviorlm.metrics.measures import METRICS
from behaviorlm.metrics.outcomes import Choices, Outcomes, outcomes
from behaviorlm.metrics.tables import per_behavior_table, reliability

__all__ = [
    "METRICS",
    "Choices",
    "Outcomes",
    "Resampled",
    "measure_outcomes",
    "outcomes",
    "paired_difference",
    "per_behavior_table",
    "percentile_intervals",
    "reliability",
    "resample",
]
