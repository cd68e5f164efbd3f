"""What each test sample was asked under: how much history, what is known of the user, when. No user is named."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.timelines.parts import TimelinePart
from behaviorlm.timelines.splits import TRAIN
from behaviorlm_ray.evaluation.samples import SampleFacts
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows

CLOCK = ("hour", "weekday")
SHOWN_HISTORY = 12
"""Events before a sample that are shown, the latest."""

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """One test sample as it is shown. events_seen: how many the model saw, of which the history is the latest."""

    history: list[str]
    events_seen: int
    context: dict[str, Any]
    came: str


@dataclass(frozen=True)
class Circumstances:
    """Of each of n test samples what it was asked under.

    history: events that the model saw; known: events of the user in the training part; both int64[n]. clock: its hour,
    weekday as text, object[n], where the log has a clock. groups: int64[n], a number for each group. question: reads
    the one at a place.
    """

    history: Int64
    known: Int64
    is_repeat: NDArray[np.bool_]
    is_tail: NDArray[np.bool_]
    groups: Int64
    clock: dict[str, NDArray[np.object_]]
    question: Callable[[int], Question]


def circumstances(log: PreparedLog, rows: SampleRows, facts: SampleFacts) -> Circumstances:
    """Read from the prepared log."""
    is_anchor = np.append(facts.vocabulary.is_anchor, False)
    clock = {}
    for name in CLOCK:
        if all(f"before.{name}" in part.table.column_names for part in log.parts):
            texts = [
                _texts(part.table[f"before.{name}"].take(chosen))
                for part, chosen in zip(log.parts, rows, strict=True)
            ]
            clock[name] = np.concatenate(texts)
    history, known = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for part, chosen in zip(log.parts, rows, strict=True):
        history.append(chosen - part.window_start[chosen])
        known.append(_trained(log, part, chosen))
    _, groups = np.unique(facts.groups, return_inverse=True)
    return Circumstances(
        np.concatenate(history),
        np.concatenate(known),
        facts.is_repeat,
        ~is_anchor[facts.targets],
        groups.astype(np.int64),
        clock,
        partial(_question, log, rows),
    )


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """The texts of a column, each different one held once."""
    found = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return np.array(found.dictionary.to_pylist(), object)[found.indices.to_numpy()]


def _trained(log: PreparedLog, part: TimelinePart, chosen: Int64) -> Int64:
    """Training events of the user of each sample, of all its segments."""
    is_trained = part.split == TRAIN
    if part.segment < 0:
        return np.bincount(part.user_start[is_trained], minlength=len(part) + 1)[part.user_start[chosen]]
    user = part.table["user"][0]
    of_user = [other for other in log.parts if other.segment >= 0 and other.table["user"][0] == user]
    return np.full(len(chosen), sum(int((other.split[other.halo :] == TRAIN).sum()) for other in of_user))


def _question(log: PreparedLog, rows: SampleRows, place: int) -> Question:
    starts = np.cumsum([0, *map(len, rows)])
    number = int(np.searchsorted(starts, place, side="right")) - 1
    part, row = log.parts[number], int(rows[number][place - starts[number]])
    first = max(int(part.window_start[row]), row - SHOWN_HISTORY)
    context = {
        name.removeprefix("before."): part.table[name][row].as_py()
        for name in part.table.column_names
        if name.startswith("before.") and part.table[name][row].as_py() is not None
    }
    behavior = part.table["behavior"]
    return Question(
        behavior.slice(first, row - first).to_pylist(),
        row - int(part.window_start[row]),
        context,
        behavior[row].as_py(),
    )
