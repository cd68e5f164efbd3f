"""How well the next behavior was predicted, for all, anchor and tail behaviors, with intervals."""

from behaviorlm.metrics.intervals import bootstrap, measure, measure_outcomes, paired_difference
from behaviorlm.metrics.measures import METRICS
from behaviorlm.metrics.outcomes import Choices, Outcomes, outcomes
from behaviorlm.metrics.tables import per_behavior_table, reliability

__all__ = [
    "METRICS",
    "Choices",
    "Outcomes",
    "bootstrap",
    "measure",
    "measure_outcomes",
    "outcomes",
    "paired_difference",
    "per_behavior_table",
    "reliability",
]
