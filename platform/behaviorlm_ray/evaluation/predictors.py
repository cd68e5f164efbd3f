"""Who predicts: arms and counting baselines, as batches of label scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines import BASELINES, Baseline, TimelineArrays, fit_baselines, timeline_arrays
from behaviorlm.baselines.timelines import HISTORY_ONLY
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import ScoreBatch, rows_per_batch
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm.timelines.splits import TRAIN, VALIDATION
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, rows_of_split

Int64 = NDArray[np.int64]

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


def to_natural(log: PreparedLog, mix: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """What brings log probabilities from the mix of few shots to the log's own prior: float64[K], to be added before
    they are normalized. None where all samples were used, or the mix is not known.
    """
    if log.few_shot.tail_samples is None or mix is None:
        return None
    return log_prior(log.vocabulary.counts) - mix


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


def baseline_predictors(log: PreparedLog, samples: EvaluatedSamples) -> dict[str, ArmScores]:
    """Every counting baseline by name.

    Baselines see what the models see: the events before the sample and its `context_before`.
    """
    timelines, _ = whole_log(log)
    validation, test = (asked_rows(log, rows) for rows in (samples.validation, samples.test))
    shift = to_natural(log, counted_mix(timelines))
    found = {}
    for name, baseline in fit_baselines(timelines).items():
        of = ArmScores(_predictor(baseline, timelines, validation), _predictor(baseline, timelines, test))
        found[name] = at_natural_prior(of, None if BASELINES[name].counts_history else shift)
    return found


def counted_mix(timelines: TimelineArrays) -> NDArray[np.float64]:
    """Log shares of the behaviors among the events that counting counts, float64[K]."""
    counted = timelines.behavior[timelines.training_rows()]
    return log_prior(np.bincount(counted, minlength=timelines.behaviors))


def whole_log(log: PreparedLog) -> tuple[TimelineArrays, pa.Table]:
    """The log as counting sees it, parts one after another, and the table that it is made from. With few shots events
    of the tail that are no sample are history only.
    """
    columns = ["user", "position", "behavior", "split", "is_target"]
    columns += [name for name in log.parts[0].table.column_names if name.startswith("before.")]
    columns += [name for name in log.parts[0].table.column_names if name == "session_position"]
    table = pa.concat_tables([part.table.select(columns) for part in log.parts]).combine_chunks()
    timelines = timeline_arrays(table, log.vocabulary.names)
    if log.few_shot.tail_samples is not None:
        timelines = replace(timelines, split=_split_of_few(log, timelines))
    return timelines, table


def _split_of_few(log: PreparedLog, timelines: TimelineArrays) -> NDArray[np.int8]:
    """Training and validation events of the tail that are none of the samples become history only; int8[N]."""
    is_used = ~np.append(~log.vocabulary.is_anchor, False)[timelines.behavior]
    for name in ("train", "validation"):
        is_used[asked_rows(log, rows_of_split(log, name))] = True
    is_limited = np.isin(timelines.split, (TRAIN, VALIDATION))
    return np.where(is_limited & ~is_used, HISTORY_ONLY, timelines.split).astype(np.int8)


def asked_rows(log: PreparedLog, rows: SampleRows) -> Int64:
    """The chosen samples as rows of the whole log; int64[n]."""
    starts = np.cumsum([0, *(len(part) for part in log.parts)])
    return np.concatenate([chosen + start for chosen, start in zip(rows, starts[:-1], strict=True)])


def _predictor(baseline: Baseline, timelines: TimelineArrays, asked: Int64) -> Predictor:
    def batches() -> Iterator[ScoreBatch]:
        step = rows_per_batch(timelines.behaviors)
        for start in range(0, len(asked), step):
            places = np.arange(start, min(start + step, len(asked)))
            yield ScoreBatch(places, baseline.predict(timelines, asked[places]))

    return batches
