"""Who predicts: arms and counting baselines, as batches of label scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines import Baseline, TimelineArrays, fit_baselines, timeline_arrays
from behaviorlm.metrics.score_batches import ScoreBatch, rows_per_batch
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows

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
    None: the log's own, or not known.
    """

    validation: Predictor
    test: Predictor
    without_history: ScoresAt | None = None
    mix: NDArray[np.float64] | None = None


def baseline_predictors(log: PreparedLog, samples: EvaluatedSamples) -> dict[str, ArmScores]:
    """Every counting baseline by name.

    Baselines see what the models see: the events before the sample and its `context_before`.
    """
    timelines, _ = whole_log(log)
    validation, test = (asked_rows(log, rows) for rows in (samples.validation, samples.test))
    return {
        name: ArmScores(_predictor(baseline, timelines, validation), _predictor(baseline, timelines, test))
        for name, baseline in fit_baselines(timelines).items()
    }


def whole_log(log: PreparedLog) -> tuple[TimelineArrays, pa.Table]:
    """The log as counting sees it, parts one after another, and the table that it is made from."""
    columns = ["user", "position", "behavior", "split", "is_target"]
    columns += [name for name in log.parts[0].table.column_names if name.startswith("before.")]
    columns += [name for name in log.parts[0].table.column_names if name == "session_position"]
    table = pa.concat_tables([part.table.select(columns) for part in log.parts]).combine_chunks()
    return timeline_arrays(table, log.vocabulary.names), table


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
