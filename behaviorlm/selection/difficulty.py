"""How hard each training sample is, from a model's label scores; higher is harder."""

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.label_probabilities import normalize_label_scores, require_label_scores, row_blocks


def difficulty_measures(
    label_scores: NDArray[np.floating], targets: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """Every measure of difficulty of n samples, float64[n] by name, in nats except `rank`.

    label_scores float[n, K], normalized here over the vocabulary; targets int[n], vocabulary indexes. nll =
    −log p(target); rank = place of the target, 0 is first, ties by vocabulary index; margin = best other log
    p − target's; excess = nll − entropy. Raises DataError for scores that cannot be ranked and for a target
    outside the vocabulary.
    """
    require_label_scores(label_scores, targets)
    if len(targets) and targets.min() < 0:
        raise DataError(
            f"row {int(targets.argmin())}: difficulty needs a target inside the vocabulary, got "
            f"{targets.min()}"
        )
    names = ("nll", "rank", "margin", "excess")
    measures = {name: np.empty(len(targets)) for name in names}
    for rows in row_blocks(*label_scores.shape):
        log_probabilities = normalize_label_scores(label_scores[rows])
        block = np.arange(len(log_probabilities))
        target = targets[rows]
        nll = -log_probabilities[block, target]
        raw = label_scores[rows]  # ranked as they came, so that ties are the same as in prediction
        own = raw[block, target][:, None]
        ahead = (raw > own) | ((raw == own) & (np.arange(raw.shape[1])[None, :] < target[:, None]))
        measures["nll"][rows] = nll
        measures["rank"][rows] = ahead.sum(axis=1)
        # 0 · log 0 counts as 0.
        terms = np.exp(log_probabilities) * np.where(np.isneginf(log_probabilities), 0.0, log_probabilities)
        measures["excess"][rows] = nll + terms.sum(axis=1)
        log_probabilities[block, target] = -np.inf
        measures["margin"][rows] = log_probabilities.max(axis=1) + nll
    return measures


def align_judges(
    difficulty: NDArray[np.floating], behavior: NDArray[np.integer], judge: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Difficulty as if one model had judged, float64[n]; each sample keeps its place among those of its judge.

    Our choice. Two models tuned on halves of the data can find one behavior hard by different amounts, above all one
    that neither was tuned on; the hardest of it would then all be of one half. So inside a behavior each judge's
    samples are given the quantiles of all of them. difficulty float[n], behavior int[n], judge int[n].
    """
    aligned = difficulty.astype(np.float64)
    for index in np.unique(behavior):
        members = np.flatnonzero(behavior == index)
        pooled = np.sort(difficulty[members])
        judges = np.unique(judge[members])
        if len(judges) < 2:
            continue
        levels = (np.arange(len(pooled)) + 0.5) / len(pooled)
        for one in judges:
            own = members[judge[members] == one]
            places = (_ranks(difficulty[own]) - 0.5) / len(own)
            aligned[own] = np.interp(places, levels, pooled)
    return aligned


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Place of each value from 1, float64[n]; equal ones share the mean of theirs. Not scipy's: the method has none."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return ranks
