"""Label scores as probabilities over the closed vocabulary: what is accepted, and how it is normalized."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError

# Rows are taken in blocks of about this many scores, so that float64 copies stay small beside the scores.
SCORES_PER_BLOCK = 4_000_000


def require_label_scores(
    label_scores: NDArray[np.floating],
    targets: NDArray[np.integer] | None = None,
    places: NDArray[np.integer] | None = None,
) -> None:
    """Refuse scores that cannot be ranked: [n, K] with K >= 2, no NaN, no +inf, and one finite score a row.

    `targets` int[n], if given, must hold vocabulary indexes below K; negative ones mean "unseen in training".
    `places` int[n] are the numbers of the rows, where they are a batch of more. Raises DataError that names the first
    bad row.
    """
    if label_scores.ndim != 2 or label_scores.shape[1] < 2:
        raise DataError(
            "label scores must have shape [samples, behaviors] with at least 2 behaviors, got "
            f"{label_scores.shape}"
        )
    for rows in row_blocks(*label_scores.shape):
        # NaN and +inf survive max; a row of -inf has no finite score
        highest = label_scores[rows].max(axis=1)
        if not np.isfinite(highest).all():
            bad = int(np.flatnonzero(~np.isfinite(highest))[0])
            row = rows.start + bad
            raise DataError(
                f"label scores of row {row if places is None else places[row]}: the highest is {highest[bad]}, so "
                "the behaviors cannot be ranked; the model that made them is probably damaged or overflows in its dtype"
            )
    if targets is not None:
        if targets.shape != label_scores.shape[:1]:
            raise DataError(f"{len(label_scores)} rows of label scores but {targets.shape} targets")
        if len(targets) and targets.max() >= label_scores.shape[1]:
            row = int(targets.argmax())
            raise DataError(
                f"target {targets[row]} of row {row} is outside the {label_scores.shape[1]} behaviors of "
                "the scores; were they made with another vocabulary?"
            )


def normalize_label_scores(label_scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities over the vocabulary, float64[n, K], each row's logsumexp 0. Scores may hold -inf."""
    scores = label_scores.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cover `rows` in order, each of at most about SCORES_PER_BLOCK entries."""
    step = max(1, SCORES_PER_BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
