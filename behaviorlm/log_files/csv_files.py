"""CSV files as tables of text: block by block with Arrow, with every row that is set aside numbered."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_dialects import Dialect
from behaviorlm.log_files.csv_text import BLOCK_BYTES, CsvText
from behaviorlm.log_files.encodings import NO_TEXT, name_of_encoding
from behaviorlm.log_files.explode import file_columns, file_schema
from behaviorlm.log_files.source_files import (
    MAX_QUARANTINE_VALUE_CHARACTERS,
    SourceFile,
    Span,
    quarantine_table,
)
from behaviorlm.log_files.spans import open_span
from behaviorlm.log_files.text import decoded

HEAD_BYTES = 1 << 20
HEAD_ROWS = 200


@dataclass(frozen=True)
class CsvHead:
    """The beginning of a CSV file. names: of its columns. rows: the first ones, which may have other lengths.

    delimiter: what it was taken apart by. beginning: the text as it stands in the file.
    """

    names: list[str]
    rows: list[list[str]]
    delimiter: str
    beginning: str


def csv_head(raw: bytes, source: SourceFile, config: EventsConfig) -> CsvHead:
    """What the first bytes of a CSV file, unpacked, say.

    Raises DataError for an empty file, for names that are no text, and as CsvText does.
    """
    text = CsvText(io.BytesIO(raw), source, config)
    head = b"".join(iter(text.read, b""))
    if not head.strip():
        raise DataError(f"{source.path} is empty: a CSV file needs a row with the names of its columns")
    names, rows = _first_rows(head, text.dialect, source, is_cut=len(raw) >= HEAD_BYTES)
    if any("\ufffd" in name or NO_TEXT in name or "\x00" in name for name in names):
        shown = ", ".join(names)[:80].replace(NO_TEXT, "?")
        raise DataError(
            f"{source.path}: the names of the columns are not {name_of_encoding(config)} text ({shown!r}); set "
            "events.encoding to the file's own (cp1252, utf-16-le), or convert the file to UTF-8"
        )
    beginning = text.beginning.decode("utf-8", errors="replace")
    return CsvHead(names, rows, text.dialect.delimiter.decode(), beginning)


def _first_rows(
    head: bytes, dialect: Dialect, source: SourceFile, is_cut: bool
) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, the first rows)."""
    delimiter, separator = dialect.delimiter.decode(), dialect.separator.decode()
    rows = csv.reader(
        io.StringIO(head.decode("utf-8", errors="replace"), newline=""),
        delimiter=separator,
        quotechar=dialect.quote.decode() if dialect.quote is not None else None,
        escapechar=dialect.escape.decode() if dialect.escape is not None else None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote is not None else csv.QUOTE_NONE,
    )
    found: list[list[str]] = []
    try:
        for row in rows:
            if row:
                found.append([value.replace(separator, delimiter) for value in row])
            if len(found) > HEAD_ROWS:
                break
    except csv.Error as error:
        if not found:
            raise DataError(
                f"{source.path}: its first row cannot be read as CSV ({error}); look for a quote that is never closed"
            ) from None
    if is_cut and len(found) <= HEAD_ROWS:
        found[1:] = found[1:-1]  # the head may end inside a row
    return found[0], found[1:]


def read_csv_batches(
    source: SourceFile, config: EventsConfig, span: Span | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `file_columns` and row, quarantined rows)."""
    columns, given = file_columns(config), source.given
    first_row = span.first_row if span is not None else 1
    malformed: list[tuple[int, str]] = []
    unclosed: list[int] = []

    def keep_malformed(row: pyarrow.csv.InvalidRow) -> str:
        # The header is row 1 to the parser.
        number = row.number - 2 + first_row
        quotes = dialect.without_escaped(row.text.encode()).count(dialect.quote) if dialect.quote else 0
        if quotes % 2 and ("\n" in row.text or "\r" in row.text):
            unclosed.append(number)
        shown = dialect.as_written(row.text[:MAX_QUARANTINE_VALUE_CHARACTERS]).replace(NO_TEXT, "\ufffd")
        malformed.append((number, f"{row.actual_columns} columns, not {row.expected_columns}: {shown}"))
        return "skip"

    next_row = first_row
    last_is_multiline = False
    with open_span(source, span) as stream:
        text = CsvText(stream, source, config)
        dialect = text.dialect
        try:
            reader = _open_reader(
                text, [name for name in columns.values() if name not in given], keep_malformed
            )
            for batch in reader:
                if unclosed:
                    break
                rows = _row_numbers(next_row, batch.num_rows, [number for number, _ in malformed])
                next_row = int(rows[-1]) + 1 if len(rows) else next_row
                # The parser may be ahead: what it found in later rows is needed to number those.
                passed = [item for item in malformed if item[0] < next_row]
                malformed = [item for item in malformed if item[0] >= next_row]
                arrays = [
                    pa.repeat(pa.scalar(given[name], pa.string()), batch.num_rows)
                    if name in given
                    else batch[dialect.as_parsed(name)]
                    for name in columns.values()
                ]
                if batch.num_rows:
                    last_is_multiline = any(_has_line_end(column[-1].as_py()) for column in batch.columns)
                for pattern, original in text.replaced():
                    arrays = [pc.replace_substring(array, pattern, original) for array in arrays]
                table = pa.table([*arrays, rows], [*columns, "row"])
                yield decoded(table, source, _malformed_rows(source, passed), name_of_encoding(config))
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise DataError(_csv_problem(source, next_row, str(error))) from None
    if last_is_multiline and text.quotes % 2:
        unclosed.append(next_row - 1)
    if unclosed:
        raise DataError(
            f"{source.path}: a quote opened in data row {unclosed[0]} is never closed, so the rows after "
            "it cannot be told apart; double or remove the quote"
        )
    if malformed:
        yield file_schema(config).empty_table(), _malformed_rows(source, malformed)


def _open_reader(
    text: CsvText, names: list[str], keep_malformed: Callable[[pyarrow.csv.InvalidRow], str]
) -> pyarrow.csv.CSVStreamingReader:
    dialect = text.dialect
    needed = sorted({dialect.as_parsed(name) for name in names})
    return pyarrow.csv.open_csv(
        pa.PythonFile(text, mode="r"),
        # One thread: only then does the parser number malformed rows.
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.separator.decode(),
            quote_char=dialect.quote.decode() if dialect.quote is not None else False,
            escape_char=dialect.escape.decode() if dialect.escape is not None else False,
            newlines_in_values=dialect.quote is not None or dialect.escape is not None,
            invalid_row_handler=keep_malformed,
        ),
        # As bytes, so that one row that is not UTF-8 does not take its whole block along.
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=needed,
            column_types={name: pa.binary() for name in needed},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _has_line_end(value: bytes | None) -> bool:
    return value is not None and (b"\n" in value or b"\r" in value)


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
