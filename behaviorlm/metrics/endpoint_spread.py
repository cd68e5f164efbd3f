"""How unsure the mean of the endpoint is: that of many choices on the same resamples of whole groups."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.intervals import NUMBERS_PER_BLOCK, multiplicities, numbered_groups
from behaviorlm.metrics.measures import weighted_counts

Float64 = NDArray[np.float64]


def endpoint_spread(
    right: Sequence[NDArray[np.bool_]],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    groups: NDArray,
    *,
    minimum_targets: int = 1,
    resamples: int = 1000,
    seed: int = 0,
) -> Float64:
    """Mean of anchor accuracy and tail macro recall of each of o choices on resamples of groups, float64[o, resamples].

    right: which of n samples each chose rightly, bool[n]. targets: int[n], negative ones unseen in training; is_anchor
    bool[K]; groups: the group of each sample, [n]. The tail behaviors are those with so many targets in the samples;
    one that a resample lacks is left out of its mean. NaN where a resample has no anchor target or none of the tail.
    """
    group_index, number = numbered_groups(groups, len(targets))
    counts = np.bincount(targets[targets >= 0], minlength=len(is_anchor))
    tail = np.flatnonzero(~is_anchor & (counts >= max(minimum_targets, 1)))
    column = np.full(len(is_anchor) + 1, -1)  # the last is what unseen targets find
    column[np.flatnonzero(is_anchor)], column[tail] = 0, np.arange(1, len(tail) + 1)
    of_sample, width = column[targets], len(tail) + 1
    block = max(1, NUMBERS_PER_BLOCK // (number + width))

    def weighed(rows: NDArray[np.bool_], weights: Float64) -> Float64:
        return weighted_counts(weights, group_index[rows], of_sample[rows], width)

    parts = []
    for weights in multiplicities(number, resamples, seed, block):
        there = weighed(of_sample >= 0, weights)
        occurs = there > 0
        found = []
        for one in right:
            hits = weighed(one & (of_sample >= 0), weights)
            recalls = np.divide(hits, there, out=np.zeros_like(hits), where=occurs)
            with np.errstate(invalid="ignore"):
                of_tail = recalls[:, 1:].sum(axis=1) / occurs[:, 1:].sum(axis=1)
            found.append(np.where(occurs[:, 0], (recalls[:, 0] + of_tail) / 2, np.nan))
        parts.append(np.array(found))
    return np.concatenate(parts, axis=1)
