"""Few shots: at most so many targets of each tail behavior, and a validation part whose tail is as rare (our choice).

A behavior of n training targets of which k are used keeps the share k / n of its validation targets, so that nothing is
chosen on a tail that training did not have. Both draws go by sample id, so that more shots keep what fewer took.
"""

import numpy as np
from numpy.typing import NDArray

from behaviorlm.timelines.config import FewShotConfig
from behaviorlm.timelines.sample_ids import id_words, place_within, uniform_keys
from behaviorlm.timelines.vocabulary import Vocabulary

Int64 = NDArray[np.int64]

_SALT = 0x5407
"""Apart from the keys by which samples are selected and evaluated, which a seed alone would repeat."""


def used_shares(vocabulary: Vocabulary, config: FewShotConfig) -> NDArray[np.float64]:
    """The share of each behavior's training targets that is used, float64[K]; of anchors, and where there is none,
    `config.share`.
    """
    if config.tail_samples is None:
        return np.full(len(vocabulary), config.share)
    shares = np.minimum(config.tail_samples / np.maximum(vocabulary.counts, 1), config.share)
    return np.where(vocabulary.is_anchor, config.share, shares)


def training_limits(vocabulary: Vocabulary, config: FewShotConfig) -> Int64:
    """How many training targets of each behavior are used; int64[K]. A share is rounded up or down by a draw of the
    behavior, so that larger ones never use fewer, and rare behaviors are not all left out.
    """
    counts = vocabulary.counts
    of_share = counts if config.share == 1 else np.floor(config.share * counts + _chance(vocabulary, config))
    shots = counts if config.tail_samples is None else np.minimum(counts, config.tail_samples)
    return np.minimum(of_share, np.where(vocabulary.is_anchor, counts, shots)).astype(np.int64)


def validation_limits(vocabulary: Vocabulary, config: FewShotConfig, there: Int64) -> Int64:
    """How many validation targets of each behavior are used, of int64[K] that are there; int64[K].

    A share of them, rounded up or down by a draw of the behavior, so that the tail is as rare as in training on average
    and more shots never use fewer.
    """
    shares = used_shares(vocabulary, config)
    return np.where(shares < 1, np.floor(shares * there + _chance(vocabulary, config)), there).astype(
        np.int64
    )


def _chance(vocabulary: Vocabulary, config: FewShotConfig) -> NDArray[np.float64]:
    """By what a share of each behavior is rounded, float64[K] in [0, 1)."""
    return np.random.default_rng([config.seed, _SALT]).random(len(vocabulary))


def within_limits(
    behavior: NDArray[np.integer], sample_ids: NDArray[np.uint8], limits: Int64, seed: int
) -> NDArray[np.bool_]:
    """Which of n samples are used, bool[n]: of each behavior, int[n] with -1 for none of the vocabulary, the first so
    many in an order drawn by their ids, uint8[n, 16], and the seed.
    """
    there = np.bincount(behavior[behavior >= 0], minlength=len(limits))
    is_limited = np.append(there > limits, False)[behavior]
    rows = np.flatnonzero(is_limited)
    high, low = id_words(sample_ids[rows])
    place = place_within(behavior[rows], [uniform_keys(high, low, seed + _SALT), high, low])
    used = ~is_limited
    used[rows[place < limits[behavior[rows]]]] = True
    return used
