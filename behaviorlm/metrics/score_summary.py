"""What is kept of label scores beside outcomes: enough to calibrate, to mix and to list, without the scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import row_blocks

TOP = 5
"""Behaviors kept of each sample, as many as the metrics look at."""


@dataclass(frozen=True)
class ScoreSummary:
    """One row per sample of label scores float[n, K].

    target_score: float32[n], NaN for a target unseen in training. log_normalizer: float64[n], log Σ exp of the scores,
    so that their difference is the target's log-probability over the vocabulary. top: int32[n, min(TOP, K)], the
    behaviors ranked first, best first, equal scores by vocabulary index; top_scores: float32, theirs.
    """

    target_score: NDArray[np.float32]
    log_normalizer: NDArray[np.float64]
    top: NDArray[np.int32]
    top_scores: NDArray[np.float32]


def summarize_scores(label_scores: NDArray[np.floating], targets: NDArray[np.integer]) -> ScoreSummary:
    """The summary of label scores float[n, K] that `require_label_scores` accepts, for targets int[n]."""
    samples, behaviors = label_scores.shape
    normalizer = np.empty(samples)
    top = np.empty((samples, min(TOP, behaviors)), np.int32)
    for rows in row_blocks(samples, behaviors):
        scores = label_scores[rows]
        highest = scores.max(axis=1, keepdims=True).astype(np.float64)
        normalizer[rows] = np.log(np.exp(scores - highest).sum(axis=1)) + highest[:, 0]
        top[rows] = _top(scores, top.shape[1])
    every = np.arange(samples)
    target_score = np.where(targets < 0, np.nan, label_scores[every, targets]).astype(np.float32)
    return ScoreSummary(
        target_score, normalizer, top, np.take_along_axis(label_scores, top, axis=1).astype(np.float32)
    )


def _top(scores: NDArray[np.floating], number: int) -> NDArray[np.int32]:
    """Taken one after another, which is faster than sorting where K is large."""
    left = scores.copy()
    every = np.arange(len(scores))
    top = np.empty((len(scores), number), np.int32)
    for place in range(number):
        top[:, place] = left.argmax(axis=1)
        last = left[every, top[:, place]]
        left[every, top[:, place]] = -np.inf
    few = np.flatnonzero(np.isneginf(last))  # of those that score -inf it cannot tell which are taken
    if len(few):
        top[few] = np.argsort(-scores[few], axis=1, kind="stable")[:, :number]
    return top
