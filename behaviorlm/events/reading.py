"""Reading logs as a stream of tables of text: CSV and Parquet here, JSON lines in `json_lines`.

A table read has one nullable string column per role of `config.source_columns`, and `row` int64 (1-based: the
data row of a CSV or Parquet file, the line of a JSON lines file; empty lines of a CSV file do not count).
"""

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, source_columns
from behaviorlm.events.json_lines import head_columns, read_json_line_batches
from behaviorlm.events.source_files import (
    MAX_QUARANTINE_VALUE_CHARACTERS,
    QUARANTINE_SCHEMA,
    ByteStream,
    SourceFile,
    list_files,
    open_source,
    quarantine_table,
)
from behaviorlm.files.input_files import open_random_access

__all__ = ["SourceFile", "check_columns", "list_files", "raw_schema", "read_table_batches"]

CSV_BLOCK_BYTES = 8 << 20
HEAD_BYTES = 1 << 20

Batches = Iterator[tuple[pa.Table, pa.Table]]


def raw_schema(config: EventsConfig) -> pa.Schema:
    """Schema of the tables that `read_table_batches` yields."""
    return pa.schema([*((role, pa.string()) for role in source_columns(config)), ("row", pa.int64())])


def check_columns(config: EventsConfig, files: list[SourceFile]) -> None:
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
    readers = {"csv": _read_csv, "jsonl": _read_json_lines, "parquet": _read_parquet}
    for table, quarantine in readers[source.format](source, config, batch_rows):
        table = table.cast(raw_schema(config))
        yield table.slice(0, batch_rows), quarantine
        for start in range(batch_rows, table.num_rows, batch_rows):
            yield table.slice(start, batch_rows), QUARANTINE_SCHEMA.empty_table()


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
        return list(_open_parquet(source).schema_arrow.names)
    with open_source(source) as stream:
        if source.format == "jsonl":
            return head_columns(stream.read(HEAD_BYTES), source)
        return _csv_header(stream, source, config)


def _csv_header(stream: ByteStream, source: SourceFile, config: EventsConfig) -> list[str]:
    head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise DataError(f"{source.path} is empty: a CSV file needs a row with the names of its columns")
    try:
        # The head may end inside a character; only its first row is of interest.
        text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        text = head.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    header = next(row for row in csv.reader(io.StringIO(text), delimiter=config.delimiter) if row)
    if any("\ufffd" in name or "\x00" in name for name in header):
        raise DataError(
            f"{source.path}: the names of the columns are not UTF-8 text; convert the file to UTF-8"
        )
    return header


def _read_csv(source: SourceFile, config: EventsConfig, batch_rows: int) -> Batches:
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
                read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
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
                yield _decoded(table, source, passed)
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
        yield raw_schema(config).empty_table(), _malformed_rows(source, malformed)


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


def _decoded(
    table: pa.Table, source: SourceFile, malformed: list[tuple[int, str]]
) -> tuple[pa.Table, pa.Table]:
    """Bytes to text; rows that are not UTF-8 go to the quarantine beside the malformed ones."""
    quarantine = _malformed_rows(source, malformed)
    text = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in table.column_names])
    try:
        return table.cast(text), quarantine
    except pa.ArrowInvalid:
        pass
    is_text = np.ones(table.num_rows, dtype=bool)
    bad_values: dict[int, str] = {}
    for name in table.column_names[:-1]:
        for index, value in enumerate(table[name].to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                is_text[index] = False
                bad_values.setdefault(index, value.decode("utf-8", errors="replace"))
    bad = sorted(bad_values)
    rows = table["row"].to_numpy()[bad].tolist()
    not_text = quarantine_table(
        source.path, rows, ["not UTF-8"] * len(bad), [bad_values[index] for index in bad]
    )
    return table.filter(pa.array(is_text)).cast(text), pa.concat_tables([quarantine, not_text])


def _csv_problem(source: SourceFile, next_row: int, problem: str) -> str:
    if "straddl" in problem or "out of sync" in problem:
        return (
            f"{source.path}: the row after data row {next_row - 1} has no end within "
            f"{CSV_BLOCK_BYTES >> 20} MiB; "
            "look for a quote that is never closed, and double or remove it"
        )
    return f"{source.path}: not readable as CSV from about data row {next_row} on ({problem})"


def _read_json_lines(source: SourceFile, config: EventsConfig, batch_rows: int) -> Batches:
    with open_source(source) as stream:
        yield from read_json_line_batches(stream, source, source_columns(config))


def _open_parquet(source: SourceFile) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(open_random_access(source.path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.path}: not a readable Parquet file ({error})") from None


def _read_parquet(source: SourceFile, config: EventsConfig, batch_rows: int) -> Batches:
    columns = source_columns(config)
    next_row = 1
    with _open_parquet(source) as parquet:
        try:
            for batch in parquet.iter_batches(batch_size=batch_rows, columns=sorted(set(columns.values()))):
                rows = np.arange(next_row, next_row + batch.num_rows, dtype=np.int64)
                next_row += batch.num_rows
                texts = [_as_text(batch[column], column, source) for column in columns.values()]
                yield _decoded(pa.table([*texts, rows], [*columns, "row"]), source, [])
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{source.path}: not readable from about row {next_row} on ({error})") from None


def _as_text(values: pa.Array, column: str, source: SourceFile) -> pa.Array:
    """A Parquet column as strings, or as bytes still to be checked. Raises DataError for nested types."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return values.cast(pa.binary())
    if pa.types.is_nested(values.type):
        raise DataError(
            f"{source.path}: the column {column!r} is of type {values.type}; a plain value is needed"
        )
    if pa.types.is_floating(values.type):
        # A whole number that a table tool stored as a fraction (because of nulls) should read as one.
        whole = pc.cast(values, pa.int64(), safe=False)
        if pc.all(pc.equal(pc.cast(whole, values.type, safe=False), values)).as_py() is not False:
            values = whole
    return values.cast(pa.string())
