"""CSV files as tables of text: block by block with Arrow, with every row that is set aside numbered."""

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, source_columns
from behaviorlm.events.source_files import (
    MAX_QUARANTINE_VALUE_CHARACTERS,
    ByteStream,
    SourceFile,
    open_source,
    quarantine_table,
)
from behaviorlm.events.text import decoded, table_schema

BLOCK_BYTES = 8 << 20
HEAD_BYTES = 1 << 20


def header(stream: ByteStream, source: SourceFile, config: EventsConfig) -> list[str]:
    """The names of the columns of a CSV file. Raises DataError for an empty file and for names that are no text."""
    head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise DataError(f"{source.path} is empty: a CSV file needs a row with the names of its columns")
    try:
        # The head may end inside a character; only its first row is of interest.
        text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        text = head.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    names = next(row for row in csv.reader(io.StringIO(text), delimiter=config.delimiter) if row)
    if any("\ufffd" in name or "\x00" in name for name in names):
        raise DataError(
            f"{source.path}: the names of the columns are not UTF-8 text; convert the file to UTF-8"
        )
    return names


def read_csv_batches(source: SourceFile, config: EventsConfig) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `source_columns` and row, quarantined rows)."""
    columns = source_columns(config)
    needed = sorted(set(columns.values()))
    malformed: list[tuple[int, str]] = []
    unclosed: list[int] = []

    def keep_malformed(row: pyarrow.csv.InvalidRow) -> str:
        # The header is row 1 to the parser.
        number = row.number - 1
        if "\n" in row.text and row.text.count('"') % 2:
            unclosed.append(number)
        text = row.text[:MAX_QUARANTINE_VALUE_CHARACTERS]
        malformed.append((number, f"{row.actual_columns} columns, not {row.expected_columns}: {text}"))
        return "skip"

    next_row = 1
    last_is_multiline = False
    with open_source(source) as stream:
        counted = _QuoteCounter(stream)
        try:
            reader = pyarrow.csv.open_csv(
                pa.PythonFile(counted, mode="r"),
                # One thread: only then does the parser number malformed rows.
                read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=config.delimiter, newlines_in_values=True, invalid_row_handler=keep_malformed
                ),
                # As bytes, so that one row that is not UTF-8 does not take its whole block along.
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=needed,
                    column_types={name: pa.binary() for name in needed},
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
            for batch in reader:
                if unclosed:
                    break
                rows = _row_numbers(next_row, batch.num_rows, [number for number, _ in malformed])
                next_row = int(rows[-1]) + 1 if len(rows) else next_row
                # The parser may be ahead: what it found in later rows is needed to number those.
                passed = [item for item in malformed if item[0] < next_row]
                malformed = [item for item in malformed if item[0] >= next_row]
                table = pa.table([*(batch[name] for name in columns.values()), rows], [*columns, "row"])
                if batch.num_rows:
                    last_is_multiline = any(b"\n" in (column[-1].as_py() or b"") for column in batch.columns)
                yield decoded(table, source, _malformed_rows(source, passed))
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise DataError(_csv_problem(source, next_row, str(error))) from None
    if last_is_multiline and counted.quotes % 2:
        unclosed.append(next_row - 1)
    if unclosed:
        raise DataError(
            f"{source.path}: a quote opened in data row {unclosed[0]} is never closed, so the rows after "
            "it cannot be told apart; double or remove the quote"
        )
    if malformed:
        yield table_schema(config).empty_table(), _malformed_rows(source, malformed)


class _QuoteCounter(io.RawIOBase):
    """Passes a stream on and counts its quotes: an odd number gives away one that is never closed."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.quotes += block.count(b'"')
        return block


def _row_numbers(first: int, count: int, malformed: list[int]) -> np.ndarray:
    """Numbers int64[count] of the rows from `first` on that are not malformed."""
    index = np.arange(count, dtype=np.int64)
    sound_before = np.array(malformed, dtype=np.int64) - first - np.arange(len(malformed))
    return first + index + np.searchsorted(sound_before, index, side="right")


def _malformed_rows(source: SourceFile, malformed: list[tuple[int, str]]) -> pa.Table:
    rows = [number for number, _ in malformed]
    return quarantine_table(source.path, rows, ["malformed row"] * len(rows), [text for _, text in malformed])


def _csv_problem(source: SourceFile, next_row: int, problem: str) -> str:
    if "straddl" in problem or "out of sync" in problem:
        return (
            f"{source.path}: the row after data row {next_row - 1} has no end within "
            f"{BLOCK_BYTES >> 20} MiB; "
            "look for a quote that is never closed, and double or remove it"
        )
    return f"{source.path}: not readable as CSV from about data row {next_row} on ({problem})"
