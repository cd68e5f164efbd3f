"""What a network sees of a log: each row's behavior and context as codes, and which rows a window shows.

The history of a sample are the last `max_events` events before it, as many as a model's prompt shows at most, with the
context that was known before each of them, and the context of the sample itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.timelines.splits import TRAIN, VALIDATION

Int64 = NDArray[np.int64]

PADDING, BEGINNING, UNSEEN = 0, 1, 2
"""Codes of an event's place; those of behaviors follow from FIRST on."""
FIRST = 3
NEW_VALUE = 1
"""Of a context column: a value that no training target has; 0 is padding."""


@dataclass(frozen=True)
class CodedLog:
    """All rows as codes. behavior, previous: int64[N], the row's own and that of the row before it in its timeline
    (BEGINNING for its first). context: int64[N, C], a code of each column; sizes: how many codes each column has.
    user_start: int64[N], as in `TimelineArrays`.
    """

    behavior: Int64
    previous: Int64
    context: Int64
    sizes: tuple[int, ...]
    user_start: Int64

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.behavior)


def fitting_rows(timelines: TimelineArrays) -> tuple[Int64, Int64]:
    """Rows of the training targets, and of the validation targets, of known behaviors; with few shots those in use."""
    train, validation = (timelines.target_rows(split) for split in (TRAIN, VALIDATION))
    return train[timelines.behavior[train] >= 0], validation[timelines.behavior[validation] >= 0]


def evenly(rows: Int64, most: int) -> Int64:
    """At most so many of the rows, evenly taken."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def coded_log(timelines: TimelineArrays) -> CodedLog:
    """Read from the arrays. A value of context that no training target has is not told from another such one."""
    behavior = np.where(timelines.behavior >= 0, timelines.behavior.astype(np.int64) + FIRST, UNSEEN)
    is_first = timelines.user_start == np.arange(len(behavior))
    previous = np.where(is_first, BEGINNING, np.roll(behavior, 1))
    train, _ = fitting_rows(timelines)
    of_training = np.zeros(timelines.contexts, np.bool_)
    of_training[timelines.context[train]] = True
    columns, sizes = [], []
    values = timelines.context_values
    for column in range(len(values[0]) if values else 0):
        of_combination = [of[column] for of in values]
        known: dict[str | None, int] = {}
        for value, is_known in zip(of_combination, of_training, strict=True):
            if is_known:
                known.setdefault(value, len(known) + NEW_VALUE + 1)
        codes = np.array([known.get(value, NEW_VALUE) for value in of_combination], np.int64)
        columns.append(codes[timelines.context])
        sizes.append(len(known) + NEW_VALUE + 1)
    context = np.stack(columns, axis=1) if columns else np.zeros((len(behavior), 0), np.int64)
    return CodedLog(behavior, previous, context, tuple(sizes), timelines.user_start)


@dataclass(frozen=True)
class Windows:
    """Runs of neighboring rows of one timeline, each laid out from the left: rows int64[b, L], is_there bool[b, L].

    Where nothing is there the row is 0, and means nothing.
    """

    rows: Int64
    is_there: NDArray[np.bool_]


def windows_until(log: CodedLog, last: Int64, length: int) -> Windows:
    """For each row of `last` the window that ends with it, of at most `length` rows of its timeline."""
    begin = np.maximum(log.user_start[last], last - length + 1)
    places = begin[:, None] + np.arange(length)
    is_there = places <= last[:, None]
    return Windows(np.where(is_there, places, 0), is_there)


@dataclass(frozen=True)
class Chunks:
    """How the training targets of an epoch are seen. last: int64[c], the rows that windows end with; first: int64[c],
    the first row of each whose target is the window's own.
    """

    last: Int64
    first: Int64


def training_chunks(log: CodedLog, targets: Int64, length: int, chance: np.random.Generator) -> Chunks:
    """Windows in which each training target is once among the last half, so that it sees half a window at least or all
    that there is: few windows for many targets. The cut is drawn anew for each timeline.
    """
    half = (length + 1) // 2
    starts, timeline = np.unique(log.user_start[targets], return_inverse=True)
    shift = chance.integers(half, size=len(starts))[timeline]
    cell = (targets - log.user_start[targets] + shift) // half
    is_last = np.append((np.diff(cell) != 0) | (np.diff(timeline) != 0), True)
    begin = log.user_start[targets] - shift + cell * half
    return Chunks(targets[is_last], np.maximum(begin, log.user_start[targets])[is_last])
