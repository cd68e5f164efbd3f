"""What a model did on each sample, reduced to the few numbers per sample that every metric needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import require_label_scores, row_blocks


@dataclass(frozen=True)
class Choices:
    """What was chosen on each sample, arrays of length n.

    target: int32, vocabulary index, -1 = unseen in training. predicted: int32. behaviors: size of the vocabulary.
    """

    target: NDArray[np.int32]
    predicted: NDArray[np.int32]
    behaviors: int


@dataclass(frozen=True)
class Outcomes:
    """One row per sample, all arrays of length n.

    target: int32, vocabulary index, -1 = unseen in training.
    predicted: int32, the behavior ranked first.
    rank: int32, place of the target in the ranking (0 = first), -1 for an unseen target.
    confidence: float64, probability of the predicted behavior, normalized over the vocabulary.
    behaviors: size of the vocabulary.
    """

    target: NDArray[np.int32]
    predicted: NDArray[np.int32]
    rank: NDArray[np.int32]
    confidence: NDArray[np.float64]
    behaviors: int

    def __len__(self) -> int:
        return len(self.target)


def outcomes(
    label_scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    places: NDArray[np.integer] | None = None,
) -> Outcomes:
    """Outcomes of label scores float[n, K] (need not be normalized) for targets int[n] (negative = unseen).

    Equal scores are ranked by vocabulary index. A row's outcome does not depend on the other rows. Raises DataError as
    `require_label_scores`.
    """
    require_label_scores(label_scores, targets, places)
    samples, behaviors = label_scores.shape
    target = np.where(targets < 0, -1, targets).astype(np.int32)
    predicted = np.empty(samples, np.int32)
    rank = np.empty(samples, np.int32)
    confidence = np.empty(samples, np.float64)
    index = np.arange(behaviors)
    for rows in row_blocks(samples, behaviors):
        scores = label_scores[rows]
        block_target = target[rows]
        own = scores[np.arange(len(scores)), block_target][:, None]  # -1 reads the last; overwritten below
        ahead = (scores > own) | ((scores == own) & (index[None, :] < block_target[:, None]))
        rank[rows] = np.where(block_target < 0, -1, ahead.sum(axis=1))
        predicted[rows] = scores.argmax(axis=1)
        highest = scores.max(axis=1, keepdims=True).astype(np.float64)
        confidence[rows] = 1.0 / np.exp(scores - highest).sum(axis=1)
    return Outcomes(target, predicted, rank, confidence, behaviors)


def probability_of(label_scores: NDArray[np.floating], chosen: NDArray[np.integer]) -> NDArray[np.float64]:
    """Probability over the vocabulary of a chosen behavior of each row, float64[n].

    Of the one that scores highest it is the confidence of `outcomes`.
    """
    probability = np.empty(len(label_scores))
    for rows in row_blocks(*label_scores.shape):
        scores = label_scores[rows]
        highest = scores.max(axis=1, keepdims=True).astype(np.float64)
        own = scores[np.arange(len(scores)), chosen[rows]].astype(np.float64) - highest[:, 0]
        probability[rows] = np.exp(own) / np.exp(scores - highest).sum(axis=1)
    return probability
