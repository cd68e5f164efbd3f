"""Who predicts, as batches of label scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import ScoreBatch

Predictor = Callable[[], Iterable[ScoreBatch]]
"""Batches in which each of n samples is once, asked for anew in each pass; places in any order."""
ScoresAt = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Label scores float32[b, K] of the samples at places int64[b]."""


@dataclass(frozen=True)
class ArmScores:
    """Label scores of a predictor on the validation and the test samples.

    without_history: those of the test samples' questions alone. Only an untuned model has them; it is then reported in
    its PMI form and as mean per token, too. mix: log shares of the behaviors that it was last tuned on, float64[K];
    None: the log's own, or not known. own_mix: added to the scores it gives what the plain rule ranks by, float64[K];
    None: nothing. counts_tokens: a score is a sum over all tokens of a name; over a closed trie it
    is not, and there is no mean per token. is_served: whether it can be exported; who cannot is only measured.
    """

    validation: Predictor
    test: Predictor
    without_history: ScoresAt | None = None
    mix: NDArray[np.float64] | None = None
    counts_tokens: bool = True
    own_mix: NDArray[np.float64] | None = None
    is_served: bool = True


def at_natural_prior(scores: ArmScores, shift: NDArray[np.float64] | None) -> ArmScores:
    """The same predictor with its probabilities brought back by a shift (`SampleFacts.to_natural`), p · π / π_train.
    Only the plain rule still ranks as it was tuned.
    """
    if shift is None:
        return scores

    def moved(predictor: Predictor) -> Predictor:
        def batches() -> Iterator[ScoreBatch]:
            for batch in predictor():
                natural = normalize_label_scores(batch.label_scores + shift)
                yield ScoreBatch(batch.places, natural.astype(np.float32))

        return batches

    return replace(
        scores, validation=moved(scores.validation), test=moved(scores.test), mix=None, own_mix=-shift
    )
