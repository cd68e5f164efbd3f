"""Label scores in whole, for tests that look at all of them, and arrays as batches."""

from collections.abc import Callable, Iterator

import numpy as np

from behaviorlm.metrics.score_batches import ScoreBatch
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, count
from behaviorlm_ray.scoring.score_files import open_scores
from behaviorlm_ray.storage import Location


def whole_scores(folder: Location, log: PreparedLog, rows: SampleRows) -> np.ndarray:
    """float32 [n, K] in order of the rows; each sample must come once."""
    scores = np.full((count(rows), len(log.vocabulary)), np.nan, np.float32)
    for batch in open_scores(folder, rows).batches(rows, len(log.vocabulary)):
        assert np.isnan(scores[batch.places]).all() and len(set(batch.places)) == len(batch.places)
        scores[batch.places] = batch.label_scores
    assert not np.isnan(scores).any()
    return scores


def in_batches(scores: np.ndarray, step: int, seed: int = 0) -> Callable[[], Iterator[ScoreBatch]]:
    """Batches of at most `step` rows, in an order of their own."""

    def batches() -> Iterator[ScoreBatch]:
        order = np.random.default_rng(seed).permutation(len(scores))
        for start in range(0, len(scores), step):
            places = order[start : start + step]
            yield ScoreBatch(places, scores[places])

    return batches
