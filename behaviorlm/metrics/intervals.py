"""Measuring outcomes, percentile intervals from resampling whole groups, and paired tests of two models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.measures import (
    METRICS,
    SampleGroup,
    behavior_counts,
    behavior_metrics,
    frequent_behaviors,
    per_sample_values,
    sample_groups,
    sample_metrics,
)
from behaviorlm.metrics.outcomes import Outcomes

# A block of resamples holds at most about this many numbers (weights and counts per behavior) at a time.
NUMBERS_PER_BLOCK = 4_000_000

CONFIDENCE = 0.95
"""Of all intervals."""

Metrics = dict[str, dict[str, float | None]]
Intervals = dict[str, dict[str, dict[str, float | None]]]
_Samples = dict[str, dict[str, NDArray[np.float64]]]


def measure_outcomes(
    model_outcomes: Outcomes, is_anchor: NDArray[np.bool_], is_repeat: NDArray[np.bool_] | None = None
) -> Metrics:
    """`{group: {metric: value}}` for the groups and METRICS that `behaviorlm.metrics.measures` defines.

    `is_anchor` is bool[K], `is_repeat` bool[n] or None. A metric without a sample or behavior to average is
    None. Raises DataError for shapes that do not fit.
    """
    groups = sample_groups(model_outcomes, is_anchor, is_repeat)
    values = _measured(model_outcomes, groups)
    return {group: {name: _or_none(of[name][0]) for name in METRICS} for group, of in values.items()}


@dataclass(frozen=True)
class Resampled:
    """A model measured: on the samples themselves, and on each resample of their groups, of which there are `groups`.

    By group of metrics and metric, float64[1] and float64[resamples].
    """

    outcomes: Outcomes
    measured: _Samples
    spread: _Samples
    groups: int


def resample(
    model_outcomes: Outcomes,
    is_anchor: NDArray[np.bool_],
    resampling_groups: NDArray,
    is_repeat: NDArray[np.bool_] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Resampled:
    """A model measured on resamples, each of as many groups as there are, drawn with replacement and kept whole.

    `resampling_groups` [n] (any type numpy can sort) names each sample's group. The same groups and seed give the same
    resamples. Raises DataError for shapes that do not fit.
    """
    groups = sample_groups(model_outcomes, is_anchor, is_repeat)
    group_index, number = numbered_groups(resampling_groups, len(model_outcomes))
    sums = _sums_by_group(model_outcomes, groups, group_index, number)
    width = number + len(group_index) + 3 * (model_outcomes.behaviors + 1)
    parts = [
        _metrics_under(model_outcomes, groups, sums, weights, group_index)
        for weights in multiplicities(number, resamples, seed, max(1, NUMBERS_PER_BLOCK // width))
    ]
    spread = {
        group.name: {name: np.concatenate([part[group.name][name] for part in parts]) for name in METRICS}
        for group in groups
    }
    return Resampled(model_outcomes, _measured(model_outcomes, groups), spread, number)


def percentile_intervals(of: Resampled) -> Intervals:
    """`{group: {metric: {"value", "low", "high"}}}`: the measured value and its percentile interval.

    `low` and `high` are None where the metric has no value, and where fewer than two groups leave nothing to resample.
    """
    found: Intervals = {}
    for group, measured in of.measured.items():
        bounds = _intervals(of.spread[group], of.groups)
        found[group] = {name: {"value": _or_none(measured[name][0]), **bounds[name]} for name in METRICS}
    return found


def paired_difference(first: Resampled, second: Resampled) -> Intervals:
    """`{group: {metric: {"value", "low", "high", "p"}}}` of first − second, both on the same resamples.

    `p` is two-sided: twice the smaller share of resamples on either side of zero, counting one more resample for the
    data themselves, at most 1; None where undefined. Raises DataError if the two do not have the same targets in the
    same order.
    """
    one, other = first.outcomes, second.outcomes
    if one.behaviors != other.behaviors or not np.array_equal(one.target, other.target):
        raise DataError("a paired comparison needs both models on the same samples in the same order")
    differences: Intervals = {}
    for group in first.measured:
        spread = {name: first.spread[group][name] - second.spread[group][name] for name in METRICS}
        bounds = _intervals(spread, first.groups)
        differences[group] = {
            name: {
                "value": _or_none(first.measured[group][name][0] - second.measured[group][name][0]),
                **bounds[name],
                "p": _two_sided(spread[name], first.groups),
            }
            for name in METRICS
        }
    return differences


def _measured(model_outcomes: Outcomes, groups: Sequence[SampleGroup]) -> _Samples:
    """The metrics under weight one for every sample, in arrays of length 1."""
    whole = np.zeros(len(model_outcomes), np.int64)
    sums = _sums_by_group(model_outcomes, groups, whole, 1)
    return _metrics_under(model_outcomes, groups, sums, np.ones((1, 1)), whole)


def multiplicities(number: int, resamples: int, seed: int, block: int) -> Iterator[NDArray[np.float64]]:
    """How often each group is drawn, float64[<= block, number]; the draws do not depend on the block size."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield np.stack(
            [np.bincount(generator.integers(0, number, number), minlength=number) for _ in range(size)]
        ).astype(np.float64)


def _sums_by_group(
    model_outcomes: Outcomes, groups: Sequence[SampleGroup], group_index: NDArray[np.int64], number: int
) -> list[NDArray[np.float64]]:
    """For each group of metrics the values summed per resampling group, float64[number, columns]."""
    values = per_sample_values(model_outcomes)
    sums = []
    for group in groups:
        index = group_index[group.members]
        members = values[group.members]
        columns = [np.bincount(index, column, minlength=number) for column in members.T]
        sums.append(np.stack(columns, axis=1).astype(np.float64))
    return sums


def _metrics_under(
    model_outcomes: Outcomes,
    groups: Sequence[SampleGroup],
    sums: Sequence[NDArray[np.float64]],
    weights: NDArray[np.float64],
    group_index: NDArray[np.int64],
) -> _Samples:
    values: _Samples = {}
    counts = None
    counted = None
    for group, sums_of_group in zip(groups, sums, strict=True):
        if counts is None or counted is not group.counted:  # all, anchor and tail share one count
            counted = group.counted
            counts = behavior_counts(model_outcomes, weights, group_index, counted)
            frequent = frequent_behaviors(model_outcomes, counted)
        values[group.name] = sample_metrics(weights @ sums_of_group) | behavior_metrics(
            counts, group.behaviors, frequent
        )
    return values


def numbered_groups(resampling_groups: NDArray, samples: int) -> tuple[NDArray[np.int64], int]:
    """Number of each sample's group, int64[n], and how many groups there are. Raises DataError without samples."""
    names = np.asarray(resampling_groups)
    if names.shape != (samples,):
        raise DataError(f"resampling groups have shape {names.shape}, there are {samples} samples")
    if samples == 0:
        raise DataError("there are no samples to measure; check the split and its shares")
    unique, index = np.unique(names, return_inverse=True)
    return index.astype(np.int64), len(unique)


def _intervals(spreads: Mapping[str, NDArray[np.float64]], number: int) -> dict[str, dict[str, float | None]]:
    """Of each metric's values in the resamples; those that are defined in as many are looked at together."""
    found: dict[str, dict[str, float | None]] = {name: {"low": None, "high": None} for name in spreads}
    defined = {name: spread[np.isfinite(spread)] for name, spread in spreads.items()}
    for size in {len(values) for values in defined.values()} - {0}:
        names = [name for name, values in defined.items() if len(values) == size]
        if number >= 2:
            ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
            lows, highs = np.quantile([defined[name] for name in names], ends, axis=1)
            found |= {
                name: {"low": float(low), "high": float(high)}
                for name, low, high in zip(names, lows, highs, strict=True)
            }
    return found


def _two_sided(spread: NDArray[np.float64], number: int) -> float | None:
    defined = spread[np.isfinite(spread)]
    if not len(defined) or number < 2:
        return None
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(defined) + 1))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
