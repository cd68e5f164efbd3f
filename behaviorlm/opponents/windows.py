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
    """A log of which those rows are read as codes that are asked for. code_of_context: int64[contexts, C], of each
    combination of context the code of each column; sizes: how many codes each column has.
    """

    timelines: TimelineArrays
    code_of_context: Int64
    sizes: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.timelines.behavior)

    def behavior(self, rows: Int64) -> Int64:
        """Of each row its own; in the shape of rows."""
        found = self.timelines.behavior[rows].astype(np.int64)
        return np.where(found >= 0, found + FIRST, UNSEEN)

    def previous(self, rows: Int64) -> Int64:
        """That of the row before it in its timeline, BEGINNING for its first; in the shape of rows."""
        is_first = self.timelines.user_start[rows] == rows
        return np.where(is_first, BEGINNING, self.behavior(np.maximum(rows - 1, 0)))

    def context(self, rows: Int64) -> Int64:
        """Those of its columns, int64[..., C]."""
        return self.code_of_context[self.timelines.context[rows]]


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
    """Codes of a log. A value of context that no training target has is not told from another such one."""
    train, _ = fitting_rows(timelines)
    of_training = np.zeros(timelines.contexts, np.bool_)
    of_training[timelines.context[train]] = True
    columns, sizes = [], []
    for of_combination in zip(*timelines.context_values, strict=True):
        known: dict[str | None, int] = {}
        for value, is_known in zip(of_combination, of_training, strict=True):
            if is_known:
                known.setdefault(value, len(known) + NEW_VALUE + 1)
        columns.append([known.get(value, NEW_VALUE) for value in of_combination])
        sizes.append(len(known) + NEW_VALUE + 1)
    codes = np.array(columns, np.int64).reshape(len(columns), timelines.contexts).T
    return CodedLog(timelines, codes, tuple(sizes))


@dataclass(frozen=True)
class Windows:
    """Runs of neighboring rows of one timeline, each laid out from the left: rows int64[b, L], is_there bool[b, L].

    Where nothing is there the row is 0, and means nothing.
    """

    rows: Int64
    is_there: NDArray[np.bool_]


def windows_until(log: CodedLog, last: Int64, length: int) -> Windows:
    """For each row of `last` the window that ends with it, of at most `length` rows of its timeline."""
    begin = np.maximum(log.timelines.user_start[last], last - length + 1)
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
    starts, timeline = np.unique(log.timelines.user_start[targets], return_inverse=True)
    shift = chance.integers(half, size=len(starts))[timeline]
    cell = (targets - log.timelines.user_start[targets] + shift) // half
    is_last = np.append((np.diff(cell) != 0) | (np.diff(timeline) != 0), True)
    begin = log.timelines.user_start[targets] - shift + cell * half
    return Chunks(targets[is_last], np.maximum(begin, log.timelines.user_start[targets])[is_last])
