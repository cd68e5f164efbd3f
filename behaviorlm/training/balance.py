"""What makes samples of rare behaviors count more in a tuning on all of them: weights in the loss, or repeats."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.timelines.parts import Int64, TimelinePart
from behaviorlm.timelines.sample_ids import id_words, place_within, uniform_keys

Float64 = NDArray[np.float64]

_SALT = 0x0E5A
"""Sets this draw apart from others with the same seed."""


@dataclass(frozen=True)
class Balance:
    """weights: float64 [K], what a sample of each behavior counts in the loss; None: 1. again: for each part, ascending
    rows that an epoch has once more for each time that they are listed; empty: none.
    """

    weights: Float64 | None = None
    again: Sequence[Int64] = ()


def class_weights(counts: Int64, beta: float) -> Float64:
    """The weight of a sample of each behavior, float64[K], from the samples that each has, int64[K].

    Inverse to the effective number of samples, (1 - beta^n) / (1 - beta) (Cui et al., arXiv 1901.05555, equation 2),
    and 1 on average over the samples (they normalize over the classes; our choice, so that rates compare). beta 0: 1
    for all. A behavior without samples has the weight of one with one.
    """
    if not beta:
        return np.ones(len(counts))
    raw: Float64 = (1 - beta) / -np.expm1(np.maximum(counts, 1) * np.log(beta))
    return raw * counts.sum() / max(float(raw @ counts), 1e-300) if counts.any() else raw


def shown_counts(counts: Int64, oversample: float) -> Int64:
    """How many samples of each behavior an epoch has, int64[K], from those that there are, int64[K].

    n^(1 - b) m^b of a behavior with n where the most frequent has m, rounded; never fewer than there are.
    """
    if not oversample:
        return counts
    wanted = counts.astype(np.float64) ** (1 - oversample) * float(counts.max(initial=0)) ** oversample
    return np.where(counts > 0, np.maximum(np.floor(wanted + 0.5), counts), 0).astype(np.int64)


def rows_again(parts: Sequence[TimelinePart], rows: Sequence[Int64], shown: Int64, seed: int) -> list[Int64]:
    """The copies of samples, rows by part, that bring an epoch to `shown` samples of each behavior, int64[K].

    Each sample of a behavior is as often in it as any other, up to one; which have one more is drawn by sample id.
    """
    pairs = list(zip(parts, rows, strict=True))
    behavior = np.concatenate([part.behavior[chosen] for part, chosen in pairs])
    ids = np.concatenate([part.sample_id[chosen] for part, chosen in pairs])
    whole, rest = np.divmod(shown, np.maximum(np.bincount(behavior, minlength=len(shown)), 1))
    high, low = id_words(ids)
    place = place_within(behavior, [uniform_keys(high, low, seed + _SALT), high, low])
    copies = np.maximum(whole[behavior] + (place < rest[behavior]) - 1, 0)
    of_parts = np.split(copies, np.cumsum([len(chosen) for chosen in rows])[:-1])
    return [np.repeat(chosen, times) for chosen, times in zip(rows, of_parts, strict=True)]
