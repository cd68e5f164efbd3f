"""A log as it is read: its files, and a mapping in which all is settled that one look at the whole log settles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.events.normalization import normalize
from behaviorlm.events.order_doubts import doubts_of_order
from behaviorlm.events.settling import Head, settle_order
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import SourceFile, Span, find_files
from behaviorlm.times.moments import reads_as_written

HEAD_BLOCK, HEAD_ROWS = 2**14, 1_000
"""Rows that are read for the head of a file, and how many of them are looked at, at most (our choice)."""
MOST_HEADS = 100
"""Files whose first rows are looked at, spread evenly over the log (our choice): a look takes seconds."""


@dataclass(frozen=True)
class SourceLog:
    """The files of a log in their order, how each of them is read, and what a user should be told of that.

    events: the mapping as configured, but with every `auto` replaced by what holds for the whole log.
    """

    files: tuple[SourceFile, ...]
    events: EventsConfig
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """What is read by itself: a file, or a span of it. index: the place of the file in the log."""

    index: int
    file: SourceFile
    span: Span | None = None

    @property
    def begins_file(self) -> bool:
        """Whether it is a file, or the first span of one."""
        return self.span is None or self.span.first_row == 1

    @property
    def name(self) -> str:
        """A name for files about it. Names sort as pieces do."""
        return f"{self.index:06d}" if self.span is None else f"{self.index:06d}-{self.span.first_row:012d}"


def find_log(config: EventsConfig) -> SourceLog:
    """Find the files and read their heads only. Raises ConfigError and DataError, all problems of a kind at once."""
    found = find_files(config)
    checked = check_columns(config, found.files)
    heads = read_heads(checked.files, config)
    settled, notes = settle_order(config, heads)
    notes += doubts_of_order(settled, heads)
    return SourceLog(checked.files, settled, (*found.notes, *checked.notes, *notes))


def read_heads(files: Sequence[SourceFile], config: EventsConfig) -> list[Head]:
    """The order's columns in rows of the first block of each file, those that have any value, evenly chosen."""
    step = max(1, -(-len(files) // MOST_HEADS))
    chosen = [*files[::step], *(files[-1:] if (len(files) - 1) % step else [])]
    return [head for file in chosen if (head := _head(file, config)) is not None]


def _head(file: SourceFile, config: EventsConfig) -> Head | None:
    for text, _ in read_table_batches(file, config, HEAD_BLOCK):
        if not text.num_rows:
            continue  # all were set aside
        columns = {one.role: text[one.role].combine_chunks() for one in config.order.columns}
        has_value = np.zeros(text.num_rows, bool)
        for values in columns.values():
            has_value |= np.asarray(pc.fill_null(pc.not_equal(values, ""), False))
        rows = np.flatnonzero(has_value)
        if len(rows):
            taken = pa.array(rows[:: -(-len(rows) // HEAD_ROWS)])
            shown = {role: values.take(taken) for role, values in columns.items()}
            numbers, users = (text[name].combine_chunks().take(taken) for name in ("row", "user"))
            return Head(file.path, shown, numbers, users)
    return None


def read_events(log: SourceLog) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (events, quarantined rows) of all files in their order, see `normalize`. Raises DataError."""
    for index, file in enumerate(log.files):
        yield from read_piece(Piece(index, file), log.events)


def read_piece(
    piece: Piece, events: EventsConfig, batch_rows: int = 1 << 17
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (events, quarantined rows) of a piece of a log whose mapping is settled. Raises DataError."""
    # Not users: of many, a dictionary grows with each batch of a row group.
    typed = {"behavior", *(column.role for column in events.order.columns if reads_as_written(column))}
    for text, broken in read_table_batches(piece.file, events, batch_rows, piece.span, typed):
        yield normalize(text, broken, piece.index, piece.file.path, events)
