"""What a log is like once it is mapped, from its first rows: facts, behaviors, and what counting already predicts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.baselines import BASELINES
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts, facts_of_rows, facts_of_users
from behaviorlm.events.log import SourceLog
from behaviorlm.events.normalization import events_schema, normalize
from behaviorlm.inspection.sample import MOST_FILES, spread
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA
from behaviorlm.timelines.config import SplitConfig, VocabularyConfig
from behaviorlm.timelines.row_problems import problems_of_rows
from behaviorlm.timelines.samples import build_timelines, training_target_counts
from behaviorlm.timelines.vocabulary import Vocabulary, build_vocabulary

TRIED = ("most_frequent", "per_user_frequency", "markov_order_1", "markov_order_2", "markov_order_3")
MOST_TARGETS = 5_000
"""Targets that baselines are asked about (our choice)."""
GROUPS = ("all", "anchor", "tail")
BATCH_ROWS = 1 << 17


@dataclass(frozen=True)
class Mapped:
    """The first rows of a log under a mapping.

    facts: of them. are_all: whether the log ends with them. problems: what a run of these rows alone would end in, or
    warn of. vocabulary: None where there are no training targets. accuracy: {baseline: {group: share}} on `targets`
    validation and test targets, and how many of each group there are.
    """

    facts: LogFacts
    are_all: bool
    problems: tuple[str, ...]
    vocabulary: Vocabulary | None
    accuracy: Mapping[str, Mapping[str, float]]
    targets: Mapping[str, int]
    timelines: pa.Table


def look_at_mapped(
    log: SourceLog, split: SplitConfig, vocabulary: VocabularyConfig, min_history: int, most: int
) -> Mapped:
    """Read the first rows of some files, spread over the log. Raises DataError where preparation would for a row."""
    events, quarantined, begun, are_all = _first_events(log, most)
    timelines, counts = build_timelines(events, log.events, split, min_history, log.events.dataset)
    facts = facts_of_rows(events, quarantined, begun) + facts_of_users(events, timelines, counts)
    problems = problems_of_rows(facts, log.events, split)
    found = None
    accuracy: Mapping[str, Mapping[str, float]] = {}
    targets: Mapping[str, int] = {}
    try:
        found = build_vocabulary(training_target_counts(timelines), vocabulary)
    except DataError as error:
        problems.append(str(error))
    if found is not None:
        anchors = int(np.sum(found.is_anchor))
        facts = facts.model_copy(update={"anchors": anchors, "tail": len(found) - anchors})
        problems += found.warnings
        accuracy, targets = _predicted(timelines, found)
    return Mapped(facts, are_all, tuple(problems), found, accuracy, targets, timelines)


def _first_events(log: SourceLog, most: int) -> tuple[pa.Table, pa.Table, int, bool]:
    """(events, quarantined rows, files begun, whether that is all)."""
    files = spread(log.files, MOST_FILES)
    places = {file.path: place for place, file in enumerate(log.files)}
    usable, unusable = [events_schema(log.events).empty_table()], [QUARANTINE_SCHEMA.empty_table()]
    left, begun, are_all = most, 0, len(files) == len(log.files)
    for number, file in enumerate(files):
        if left <= 0:
            are_all = False
            break
        quota = max(1, left // (len(files) - number))
        begun += 1
        for text, broken in read_table_batches(file, log.events, min(quota, BATCH_ROWS)):
            if quota <= 0:
                are_all &= not len(text)
                break
            part = text.slice(0, quota)
            are_all &= len(part) == len(text)
            normal, lost = normalize(part, broken, places[file.path], file.path, log.events)
            usable.append(normal)
            unusable.append(lost)
            quota -= len(part)
            left -= len(part)
            if len(part) < len(text):
                break
    return pa.concat_tables(usable), pa.concat_tables(unusable), begun, are_all


def _predicted(
    timelines: pa.Table, vocabulary: Vocabulary
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Accuracy of counting on held-out targets, and how many targets each group has."""
    arrays = timeline_arrays(timelines, vocabulary.names)
    rows = np.sort(np.concatenate([arrays.target_rows(1), arrays.target_rows(2)]))
    if not len(rows) or not len(arrays.training_rows()):
        return {}, {}
    rows = rows[:: max(1, -(-len(rows) // MOST_TARGETS))]
    groups = _groups(arrays, rows, vocabulary)
    found = {}
    for name in TRIED:
        baseline = BASELINES[name].fit(arrays)
        chosen = baseline.predict(arrays, rows).argmax(axis=1)
        is_right = chosen == arrays.behavior[rows]
        found[name] = {group: float(is_right[mask].mean()) for group, mask in groups.items() if mask.any()}
    return found, {group: int(mask.sum()) for group, mask in groups.items()}


def _groups(
    arrays: TimelineArrays, rows: NDArray[np.int64], vocabulary: Vocabulary
) -> dict[str, NDArray[np.bool_]]:
    target = arrays.behavior[rows]
    is_anchor = np.append(vocabulary.is_anchor, False)[target]  # -1, unseen in training, is the last
    return {"all": np.ones(len(rows), bool), "anchor": is_anchor, "tail": ~is_anchor}


def events_over_time(mapped: Mapped, bins: int = 60) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(events in each of so many equal spans, their edges in microseconds or steps)."""
    order = pc.cast(mapped.timelines["order"], pa.float64()).to_numpy()
    counts, edges = np.histogram(order, bins=bins)
    return counts.astype(np.int64), edges
