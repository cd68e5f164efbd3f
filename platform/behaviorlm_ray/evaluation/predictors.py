"""Who predicts: arms and counting baselines, as batches of label scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines import BASELINES, fit_baselines
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import ScoreBatch, rows_per_batch
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm_ray.evaluation.counted_log import CountedLog, Int64
from behaviorlm_ray.evaluation.samples import SampleFacts

Predictor = Callable[[], Iterable[ScoreBatch]]
"""Batches in which each of n samples is once, asked for anew in each pass; places in any order."""


ScoresAt = Callable[[Int64], NDArray[np.float32]]
"""Label scores float32[b, K] of the samples at places int64[b]."""


@dataclass(frozen=True)
class ArmScores:
    """Label scores of a predictor on the validation and the test samples.

    without_history: those of the test samples' questions alone. Only an untuned model has them; it is then reported in
    its PMI form and as mean per token, too. mix: log shares of the behaviors that it was last tuned on, float64[K];
    None: the log's own, or not known. own_mix: added to the scores it gives what the plain rule ranks by, float64[K];
    None: nothing. counts_tokens: a score is a sum over all tokens of a name; over a closed trie it
    is not, and there is no mean per token.
    """

    validation: Predictor
    test: Predictor
    without_history: ScoresAt | None = None
    mix: NDArray[np.float64] | None = None
    counts_tokens: bool = True
    own_mix: NDArray[np.float64] | None = None


def to_natural(facts: SampleFacts, mix: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """What brings log probabilities from the mix of few shots to the log's own prior: float64[K], to be added before
    they are normalized. None where all samples were used, or the mix is not known.
    """
    if facts.few_shot.tail_samples is None or mix is None:
        return None
    return log_prior(facts.vocabulary.counts) - mix


def at_natural_prior(scores: ArmScores, shift: NDArray[np.float64] | None) -> ArmScores:
    """The same predictor with its probabilities brought back by a shift (`to_natural`), p · π / π_train. Only the plain
    rule still ranks as it was tuned.
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


def baseline_predictors(counted: CountedLog, facts: SampleFacts) -> dict[str, ArmScores]:
    """Every counting baseline by name.

    Baselines see what the models see: the events before the sample and its `context_before`.
    """
    timelines, shift = counted.timelines, to_natural(facts, counted.mix)
    found = {}
    for name, baseline in fit_baselines(timelines).items():
        of = counting_scores(partial(baseline.predict, timelines), counted)
        found[name] = at_natural_prior(of, None if BASELINES[name].counts_history else shift)
    return found


def counting_scores(said_of: ScoresAt, counted: CountedLog) -> ArmScores:
    """What is said of the samples, in batches; said_of: at rows of the whole log."""
    step = rows_per_batch(counted.timelines.behaviors)

    def batches(asked: Int64) -> Iterator[ScoreBatch]:
        for start in range(0, len(asked), step):
            places = np.arange(start, min(start + step, len(asked)))
            yield ScoreBatch(places, said_of(asked[places]))

    return ArmScores(partial(batches, counted.validation), partial(batches, counted.test))
