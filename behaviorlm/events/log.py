"""A log as it is read: its files, and a mapping in which all is settled that one look at the whole log settles."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from behaviorlm.events.columns import check_columns
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.normalization import normalize
from behaviorlm.events.reading import read_table_batches
from behaviorlm.events.source_files import SourceFile, find_files


@dataclass(frozen=True)
class SourceLog:
    """The files of a log in their order, how each of them is read, and what a user should be told of that.

    events: the mapping as configured, but with every `auto` replaced by what holds for the whole log.
    """

    files: tuple[SourceFile, ...]
    events: EventsConfig
    notes: tuple[str, ...] = ()


def find_log(config: EventsConfig) -> SourceLog:
    """Find the files and read their heads only. Raises ConfigError and DataError, all problems of a kind at once."""
    found = find_files(config)
    checked = check_columns(config, found.files)
    return SourceLog(checked.files, config, (*found.notes, *checked.notes))


def read_events(log: SourceLog, batch_rows: int = 1 << 17) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (events, quarantined rows) of all files in their order, see `normalize`. Raises DataError."""
    for index, file in enumerate(log.files):
        for text, broken in read_table_batches(file, log.events, batch_rows):
            yield normalize(text, broken, index, file.path, log.events)
