"""Who predicts: arms and counting baselines, as batches of label scores, and what is kept of each sample."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines import Baseline, TimelineArrays, fit_baselines, timeline_arrays
from behaviorlm.errors import DataError
from behaviorlm.metrics.outcomes import Outcomes, outcomes
from behaviorlm.metrics.score_summary import ScoreSummary, summarize_scores
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.score_files import ScoreBatch, rows_per_batch

Int64 = NDArray[np.int64]

Predictor = Callable[[], Iterable[ScoreBatch]]
"""Batches in which each of n samples is once, asked for anew in each pass; places in any order."""

Arrays = dict[str, NDArray]
"""Columns of what is kept, by name; each has one row a sample."""


@dataclass(frozen=True)
class ArmScores:
    """Label scores of a model on the validation and the test samples.

    without_history: label scores float32[b, K] of the question alone, for the test samples at places int64[b]. Only an
    untuned model has them; it is then reported in its PMI form and as mean per token, too.
    """

    validation: Predictor
    test: Predictor
    without_history: Callable[[Int64], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class Kept:
    """What is kept of a predictor's label scores."""

    outcomes: Outcomes
    summary: ScoreSummary


def keep(batches: Iterable[ScoreBatch], samples: int, reduce: Callable[[ScoreBatch], Arrays]) -> Arrays:
    """Each batch reduced to arrays with one row a sample, in the order of the samples' places.

    Raises DataError where a sample is missing or there twice.
    """
    kept: Arrays = {}
    seen = np.zeros(samples, np.int8)
    for batch in batches:
        for name, values in reduce(batch).items():
            if name not in kept:
                kept[name] = np.empty((samples, *values.shape[1:]), values.dtype)
            kept[name][batch.places] = values
        np.add.at(seen, batch.places, 1)
    if (seen != 1).any():
        place = int(np.flatnonzero(seen != 1)[0])
        raise DataError(f"sample {place} of {samples} is predicted {seen[place]} times")
    return kept


def outcome_arrays(found: Outcomes) -> Arrays:
    """The columns of outcomes that differ between predictors; see `outcomes_from`."""
    return {"predicted": found.predicted, "rank": found.rank, "confidence": found.confidence}


def outcomes_from(arrays: Mapping[str, NDArray], targets: NDArray[np.int32], behaviors: int) -> Outcomes:
    """Outcomes of `outcome_arrays`, for targets int32[n]."""
    return Outcomes(targets, arrays["predicted"], arrays["rank"], arrays["confidence"], behaviors)


def summary_arrays(found: ScoreSummary) -> Arrays:
    """The columns of a summary."""
    return vars(found)


def summary_from(arrays: Mapping[str, NDArray]) -> ScoreSummary:
    """The summary of `summary_arrays`."""
    names = ("target_score", "log_normalizer", "top", "top_scores")
    return ScoreSummary(*(arrays[name] for name in names))


def keep_predictions(predictor: Predictor, targets: NDArray[np.int32], behaviors: int) -> Kept:
    """Outcomes and summary of all samples, for targets int32[n] (-1: unseen)."""

    def reduce(batch: ScoreBatch) -> Arrays:
        of_batch = targets[batch.places]
        found = outcomes(batch.label_scores, of_batch, batch.places)
        return outcome_arrays(found) | summary_arrays(summarize_scores(batch.label_scores, of_batch))

    arrays = keep(predictor(), len(targets), reduce)
    return Kept(outcomes_from(arrays, targets, behaviors), summary_from(arrays))


def baseline_predictors(log: PreparedLog, rows: SampleRows) -> dict[str, Predictor]:
    """Every counting baseline by name, for the chosen samples.

    Baselines see what the models see: the events before the sample and its `context_before`.
    """
    columns = ["user", "position", "behavior", "split", "is_target"]
    columns += [name for name in log.parts[0].table.column_names if name.startswith("before.")]
    table = pa.concat_tables([part.table.select(columns) for part in log.parts]).combine_chunks()
    timelines = timeline_arrays(table, log.vocabulary.names)
    starts = np.cumsum([0, *(len(part) for part in log.parts)])
    asked = np.concatenate([chosen + start for chosen, start in zip(rows, starts[:-1], strict=True)])
    return {
        name: _predictor(baseline, timelines, asked) for name, baseline in fit_baselines(timelines).items()
    }


def _predictor(baseline: Baseline, timelines: TimelineArrays, asked: Int64) -> Predictor:
    def batches() -> Iterator[ScoreBatch]:
        step = rows_per_batch(timelines.behaviors)
        for start in range(0, len(asked), step):
            places = np.arange(start, min(start + step, len(asked)))
            yield ScoreBatch(places, baseline.predict(timelines, asked[places]))

    return batches
