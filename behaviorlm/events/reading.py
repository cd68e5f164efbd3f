"""Reading a log as a stream: its columns checked, each file by the reader of its format, rows as tables of text."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, source_columns
from behaviorlm.events.csv_files import HEAD_BYTES, header, read_csv_batches
from behaviorlm.events.json_lines import head_columns, read_json_line_batches
from behaviorlm.events.parquet_files import open_parquet, read_parquet_batches
from behaviorlm.events.source_files import QUARANTINE_SCHEMA, SourceFile, open_source
from behaviorlm.events.text import table_schema

Batches = Iterator[tuple[pa.Table, pa.Table]]


def check_columns(config: EventsConfig, files: Sequence[SourceFile]) -> None:
    """Read only the heads of the files and check that the configured columns are there.

    A JSON line may leave a key out, so there a context column must occur in one file's first megabyte only.
    Raises DataError with all missing columns at once: the file, the column, the key that names it, what is
    there.
    """
    problems: dict[str, None] = {}
    optional_missing: dict[str, str] = {}
    seen_in_json_lines: set[str] = set()
    for source in files:
        present = _columns_of(source, config)
        if present is None:
            continue
        if source.format == "jsonl":
            seen_in_json_lines.update(present)
        for role, column in source_columns(config).items():
            if present.count(column) > 1:
                problems[
                    f"{source.path}: the column {column!r} ({_key_of(role)}) is there more than once"
                ] = None
            elif column not in present:
                there = _shown(present, source, config)
                problem = f"{source.path}: no column {column!r} ({_key_of(role)}); {there}"
                if source.format == "jsonl" and "." in role:
                    optional_missing.setdefault(column, problem)
                else:
                    problems[problem] = None
    for column, problem in optional_missing.items():
        if column not in seen_in_json_lines:
            problems[problem] = None
    if problems:
        raise DataError("\n".join(problems))


def read_table_batches(source: SourceFile, config: EventsConfig, batch_rows: int = 1 << 17) -> Batches:
    """Stream a file as (table of text, quarantined rows) with at most `batch_rows` rows of text each.

    Rows that cannot be read (wrong number of columns, broken JSON, bytes that are not UTF-8) are quarantined.
    Raises DataError naming the file where it cannot be read on: truncated gzip, unclosed quote, unusable
    type.
    """
    for table, quarantine in _read(source, config, batch_rows):
        table = table.cast(table_schema(config))
        yield table.slice(0, batch_rows), quarantine
        for start in range(batch_rows, table.num_rows, batch_rows):
            yield table.slice(start, batch_rows), QUARANTINE_SCHEMA.empty_table()


def _read(source: SourceFile, config: EventsConfig, batch_rows: int) -> Batches:
    if source.format == "csv":
        yield from read_csv_batches(source, config)
    elif source.format == "parquet":
        yield from read_parquet_batches(source, config, batch_rows)
    else:
        with open_source(source) as stream:
            yield from read_json_line_batches(stream, source, source_columns(config))


def _key_of(role: str) -> str:
    keys = {"order": "events.order.column", "split_label": "events.split_column"}
    kind, dot, _ = role.partition(".")
    return f"events.context_{kind}" if dot else keys.get(role, f"events.{role}")


def _shown(present: list[str], source: SourceFile, config: EventsConfig) -> str:
    shown = "columns there: " + ", ".join(present[:40]) + (", …" if len(present) > 40 else "")
    if source.format == "csv" and len(present) == 1:
        return f"{shown} (only one: is events.delimiter really {config.delimiter!r}?)"
    return shown


def _columns_of(source: SourceFile, config: EventsConfig) -> list[str] | None:
    """Column names at the head of a file; None for JSON lines without any row."""
    if source.format == "parquet":
        return list(open_parquet(source).schema_arrow.names)
    with open_source(source) as stream:
        if source.format == "jsonl":
            return head_columns(stream.read(HEAD_BYTES), source)
        return header(stream, source, config)
