"""The log as plain arrays: what counting baselines are fitted on and asked about."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.files.scratch import ScratchColumn
from behaviorlm.timelines.splits import TRAIN

ROWS_PER_BLOCK = 2**20
"""Rows of a log whose numbers are made at a time (our choice): some 100 MB of them."""
HISTORY_ONLY = -1
"""In place of a split."""


@dataclass(frozen=True)
class TimelineArrays:
    """All timelines one after another, one row per event, arrays of length N; of a whole log in a scratch file.

    behavior: int32, vocabulary index, -1 = unseen in training. user_start: int64, the row at which the row's
    timeline begins (its session, where histories do not cross them). is_target: bool. split: int8, 0 train,
    1 validation, 2 test, -1 history only: neither counted nor a sample. context: int32, which of `contexts`
    combinations of context known before the event it has (0 for a log without any); context_values: the values of
    each, by column, in the order of context_columns. behaviors: size K of the vocabulary.
    """

    behavior: NDArray[np.int32]
    user_start: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    split: NDArray[np.int8]
    context: NDArray[np.int32]
    behaviors: int
    contexts: int = 1
    context_values: tuple[tuple[str | None, ...], ...] = ()
    context_columns: tuple[str, ...] = ()

    def target_rows(self, split: int) -> NDArray[np.int64]:
        """Rows of the samples of one split, in order."""
        return np.concatenate([np.zeros(0, np.int64), *self.target_blocks(split)])

    def target_blocks(self, split: int) -> Iterator[NDArray[np.int64]]:
        """The same, those of so many rows of the log at a time."""
        for begin in range(0, len(self.split), ROWS_PER_BLOCK):
            block = slice(begin, begin + ROWS_PER_BLOCK)
            yield begin + np.flatnonzero(self.is_target[block] & (self.split[block] == split))

    def training_rows(self) -> NDArray[np.int64]:
        """Rows whose behavior may be counted: every training event of a known behavior, target or not."""
        return np.concatenate([np.zeros(0, np.int64), *self.training_blocks()])

    def training_blocks(self) -> Iterator[NDArray[np.int64]]:
        """The same, those of so many rows of the log at a time."""
        for begin in range(0, len(self.split), ROWS_PER_BLOCK):
            block = slice(begin, begin + ROWS_PER_BLOCK)
            yield begin + np.flatnonzero((self.split[block] == TRAIN) & (self.behavior[block] >= 0))

    def pasts_of(
        self, rows: NDArray[np.integer], events: int | None = None
    ) -> Iterator[tuple["TimelineArrays", NDArray[np.int64], NDArray[np.int64]]]:
        """The timelines that any of `rows` lies in, each up to the last of them, one after another: so many rows at a
        time, or one timeline. What is of no use to the rows asked for is not looked at.

        events: that are looked at before each row; None: all. Only these are read, and each stretch of them begins as
        if its timeline did: a long one is then no more than its stretches.

        Yields these timelines, which of their rows are among `rows`, and which of `rows` they are.
        """
        order = np.argsort(rows, kind="stable")
        wanted = np.asarray(rows, np.int64)[order]
        start = self.user_start[wanted]
        is_first = np.append(True, start[1:] != start[:-1])[: len(start)]
        if events is not None:
            start = np.maximum(start, wanted - events)
            is_first[1:] |= start[1:] > wanted[:-1]
            is_first[1:] |= np.diff(wanted // ROWS_PER_BLOCK) != 0
        first = np.flatnonzero(is_first)
        bounds = np.append(first, len(wanted))
        begin, end = start[first], wanted[bounds[1:] - 1] + 1
        sizes = end - begin
        ends = np.cumsum(sizes)
        done = 0
        while done < len(begin):
            room = ends[done] - sizes[done] + ROWS_PER_BLOCK
            stop = max(done + 1, int(np.searchsorted(ends, room, side="right")))
            lengths = sizes[done:stop]
            offset = np.cumsum(lengths) - lengths
            of_log = np.repeat(begin[done:stop] - offset, lengths) + np.arange(lengths.sum())
            part = replace(
                self,
                behavior=self.behavior[of_log],
                user_start=np.repeat(offset, lengths),
                is_target=self.is_target[of_log],
                split=self.split[of_log],
                context=self.context[of_log],
            )
            asked = slice(int(bounds[done]), int(bounds[stop]))
            moved = np.repeat(offset - begin[done:stop], np.diff(bounds[done : stop + 1]))
            yield part, wanted[asked] + moved, order[asked]
            done = stop


class Baseline(Protocol):
    """A fitted baseline."""

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K] of the behavior at each row, from what lies before it.

        Those of a row do not depend on which other rows are asked for, so a log may be asked about in slices.
        """
        ...


def timeline_arrays(tables: pa.Table | Iterable[pa.Table], names: Sequence[str]) -> TimelineArrays:
    """Arrays of a whole log of timelines (columns user, position, behavior, split, is_target, `before.*`).

    tables: the log, or its parts one after another, of which only codes are kept; a timeline may run on in the next.
    `names` is the vocabulary in its order; the context is the combination of all `before.*` columns. Training,
    validation and test must come together, so that contexts agree. Raises DataError if timelines are torn apart or out
    of order.
    """
    found = _Codes(pa.array(names, pa.string()))
    for table in [tables] if isinstance(tables, pa.Table) else tables:
        found.add(table)
    context, values = found.contexts()
    return TimelineArrays(
        behavior=found.behavior.whole(),
        user_start=found.start.whole(),
        is_target=found.is_target.whole(),
        split=found.split.whole(),
        context=context,
        behaviors=len(names),
        contexts=max(1, len(values)),
        context_values=values,
        context_columns=tuple(found.columns),
    )


class _Codes:
    """Codes of the rows so far. Values of a context column are numbered as they come, and so are combinations."""

    def __init__(self, names: pa.Array) -> None:
        self._names = names
        self._rows = 0
        self._last: tuple[str | None, int] = (None, -1)
        self._values: list[dict[str | None, int]] = []
        self._combinations: dict[tuple[int, ...], int] = {}
        self.columns: list[str] = []
        self.behavior, self.start = ScratchColumn(np.int32), ScratchColumn(np.int64)
        self.is_target, self.split = ScratchColumn(np.bool_), ScratchColumn(np.int8)
        self.combination = ScratchColumn(np.int32)

    def add(self, table: pa.Table) -> None:
        if not len(table):
            return
        position = table["position"].to_numpy().astype(np.int64)
        self._check(table["user"], position)
        rows = np.arange(self._rows, self._rows + len(table), dtype=np.int64)
        # Histories that do not cross sessions begin with them, for counting as for models.
        of_session = "session_position" in table.column_names
        self.start.append(rows - (table["session_position"].to_numpy() if of_session else position))
        behavior = pc.fill_null(pc.index_in(table["behavior"], value_set=self._names), -1)
        self.behavior.append(behavior.to_numpy())
        self.is_target.append(table["is_target"].to_numpy())
        self.split.append(table["split"].to_numpy())
        self.combination.append(self._combined(table))
        self._rows += len(table)

    def contexts(self) -> tuple[NDArray[np.int32], tuple[tuple[str | None, ...], ...]]:
        """The code of each row's combination, int32[N], and the values of each code; codes go by those of values."""
        keys = list(self._combinations)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        code = np.empty(len(order), np.int32)
        code[order] = np.arange(len(order))
        names = [list(values) for values in self._values]
        values = tuple(
            tuple(of[value] for of, value in zip(names, keys[index], strict=True)) for index in order
        )
        combination, column = self.combination.whole(), ScratchColumn(np.int32)
        for begin in range(0, self._rows, ROWS_PER_BLOCK):
            column.append(code[combination[begin : begin + ROWS_PER_BLOCK]])
        return column.whole(), values

    def _check(self, users: pa.ChunkedArray, position: NDArray[np.int64]) -> None:
        """Each row is its user's first or follows the one before, in its table or at the end of the last."""
        follows = position == np.append(self._last[1], position[:-1]) + 1
        follows[1:] &= np.asarray(pc.equal(users.slice(1), users.slice(0, len(users) - 1)))
        follows[0] &= users[0].as_py() == self._last[0]
        torn = np.flatnonzero(~follows & (position != 0))
        if len(torn):
            bad = int(torn[0])
            raise DataError(
                f"row {self._rows + bad} of the timelines: position {position[bad]} does not continue its user's "
                "timeline; timelines must be whole and in order"
            )
        self._last = users[-1].as_py(), int(position[-1])

    def _combined(self, table: pa.Table) -> NDArray[np.int32]:
        """The number of each row's combination of context; a missing value is a value of its own."""
        columns = [name for name in table.column_names if name.startswith("before.")]
        self.columns = columns
        self._values = self._values or [{} for _ in columns]
        local = np.zeros(len(table), np.int64)
        coded = []
        for column, known in zip(columns, self._values, strict=True):
            encoded = pc.dictionary_encode(table[column].combine_chunks(), null_encoding="encode")
            number = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
            of_row = np.array(number, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
            coded.append(of_row)
            local = local * (max(number) + 1) + of_row
            if len(columns) > 2:  # so that no product overflows
                local = np.unique(local, return_inverse=True)[1]
        _, first, of_combination = np.unique(local, return_index=True, return_inverse=True)
        keys = zip(*(of_row[first].tolist() for of_row in coded), strict=True) if coded else [()]
        numbers = [self._combinations.setdefault(key, len(self._combinations)) for key in keys]
        return np.array(numbers, np.int32)[of_combination]
