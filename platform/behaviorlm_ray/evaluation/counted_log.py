"""The log as counting sees it: the parts one after another, and which of its rows are asked about."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import HISTORY_ONLY, TimelineArrays, timeline_arrays
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm.timelines.splits import TRAIN, VALIDATION
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, rows_of_split

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class CountedLog:
    """The whole log as codes. With few shots events of the tail that are no sample are history only. columns: of the
    context known before an event. validation, test: the samples as rows of it, int64[n].
    """

    timelines: TimelineArrays
    columns: tuple[str, ...]
    validation: Int64
    test: Int64

    @cached_property
    def mix(self) -> NDArray[np.float64]:
        """Log shares of the behaviors among the events that counting counts, float64[K]."""
        counts = np.zeros(self.timelines.behaviors, np.int64)
        for rows in self.timelines.training_blocks():
            counts += np.bincount(self.timelines.behavior[rows], minlength=self.timelines.behaviors)
        return log_prior(counts)


def counted_log(log: PreparedLog, samples: EvaluatedSamples) -> CountedLog:
    """Read from the prepared log."""
    there = log.parts[0].table.column_names
    columns = ["user", "position", "behavior", "split", "is_target"]
    before = tuple(name for name in there if name.startswith("before."))
    columns += [*before, *(name for name in there if name == "session_position")]
    timelines = timeline_arrays((part.own_events.select(columns) for part in log.parts), log.vocabulary.names)
    if not log.few_shot.uses_all:
        timelines = replace(timelines, split=_split_of_few(log, timelines))
    return CountedLog(timelines, before, asked_rows(log, samples.validation), asked_rows(log, samples.test))


def asked_rows(log: PreparedLog, rows: SampleRows) -> Int64:
    """The chosen samples as rows of the whole log; int64[n]."""
    starts = np.cumsum([0, *(len(part) - part.halo for part in log.parts)])
    return np.concatenate(
        [chosen - part.halo + start for part, chosen, start in zip(log.parts, rows, starts[:-1], strict=True)]
    )


def _split_of_few(log: PreparedLog, timelines: TimelineArrays) -> NDArray[np.int8]:
    """Training and validation events that are none of the samples become history only; int8[N]. Where all anchors are
    used, so are their events that are no samples, for want of a history.
    """
    is_limited_behavior = (
        np.full(len(log.vocabulary), True) if log.few_shot.share < 1 else ~log.vocabulary.is_anchor
    )
    is_used = ~np.append(is_limited_behavior, False)[timelines.behavior]
    for name in ("train", "validation"):
        is_used[asked_rows(log, rows_of_split(log, name))] = True
    is_limited = np.isin(timelines.split, (TRAIN, VALIDATION))
    return np.where(is_limited & ~is_used, HISTORY_ONLY, timelines.split).astype(np.int8)
