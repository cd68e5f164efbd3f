"""Parquet files as tables of text, by the rules that the other formats are read by."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, source_columns
from behaviorlm.events.identity import IDENTITIES, refuse_lost_digits
from behaviorlm.events.source_files import QUARANTINE_SCHEMA, SourceFile
from behaviorlm.events.text import decoded
from behaviorlm.files.input_files import open_random_access


def open_parquet(source: SourceFile) -> pyarrow.parquet.ParquetFile:
    """Raises DataError for what is not Parquet."""
    try:
        return pyarrow.parquet.ParquetFile(open_random_access(source.path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.path}: not a readable Parquet file ({error})") from None


def read_parquet_batches(
    source: SourceFile, config: EventsConfig, batch_rows: int
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `source_columns` and row, quarantined rows)."""
    columns = source_columns(config)
    next_row = 1
    with open_parquet(source) as parquet:
        try:
            for batch in parquet.iter_batches(batch_size=batch_rows, columns=sorted(set(columns.values()))):
                rows = np.arange(next_row, next_row + batch.num_rows, dtype=np.int64)
                next_row += batch.num_rows
                for role in columns.keys() & set(IDENTITIES):
                    if pa.types.is_floating(batch[columns[role]].type):
                        refuse_lost_digits(batch[columns[role]], columns[role], source.path)
                texts = [_as_text(batch[column], column, source) for column in columns.values()]
                yield decoded(
                    pa.table([*texts, rows], [*columns, "row"]), source, QUARANTINE_SCHEMA.empty_table()
                )
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
        # Table tools write NaN where a value is missing.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        # A whole number that a table tool stored as a fraction (because of nulls) should read as one.
        whole = pc.cast(values, pa.int64(), safe=False)
        if pc.all(pc.equal(pc.cast(whole, values.type, safe=False), values)).as_py() is not False:
            values = whole
    return values.cast(pa.string())
