"""Reading a log as a stream: each file by the reader of its format, rows as tables of text."""

from collections.abc import Collection, Iterator

import pyarrow as pa

from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_files import read_csv_batches
from behaviorlm.log_files.explode import narrow
from behaviorlm.log_files.json_lines import read_json_batches
from behaviorlm.log_files.parquet_files import read_parquet_batches
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA, SourceFile, Span
from behaviorlm.log_files.spans import open_span
from behaviorlm.log_files.text import table_schema, with_typed

Batches = Iterator[tuple[pa.Table, pa.Table]]


def read_table_batches(
    source: SourceFile,
    config: EventsConfig,
    batch_rows: int = 1 << 17,
    span: Span | None = None,
    typed: Collection[str] = (),
) -> Batches:
    """Stream a file, or a span of it, as (table of text, quarantined rows) with at most `batch_rows` rows of text each.

    Rows that cannot be read (wrong number of columns, broken JSON, bytes that are not UTF-8) are quarantined.
    Raises DataError naming the file where it cannot be read on: truncated gzip, unclosed quote, unusable
    type. typed: roles that may stay as Parquet has them (`parquet_text.may_stay`).
    """
    schema = table_schema(config)
    for table, quarantine in _read(source, config, batch_rows, span, typed):
        table, quarantine = narrow(table, quarantine, config)
        table = table.cast(with_typed(schema, table.schema))
        yield table.slice(0, batch_rows), quarantine
        for start in range(batch_rows, table.num_rows, batch_rows):
            yield table.slice(start, batch_rows), QUARANTINE_SCHEMA.empty_table()


def _read(
    source: SourceFile, config: EventsConfig, batch_rows: int, span: Span | None, typed: Collection[str]
) -> Batches:
    if source.format == "csv":
        yield from read_csv_batches(source, config, span)
    elif source.format == "parquet":
        yield from read_parquet_batches(source, config, batch_rows, span, typed)
    else:
        with open_span(source, span) as stream:
            yield from read_json_batches(stream, source, config, span.first_row if span else 1)
