"""Parquet files as tables of text, by the rules that the other formats are read by."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from behaviorlm.errors import DataError
from behaviorlm.files.data_only import data_only
from behaviorlm.files.input_files import open_random_access
from behaviorlm.files.unpacking import packing_of
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.explode import file_columns, list_keys
from behaviorlm.log_files.identity import IDENTITIES, refuse_lost_digits
from behaviorlm.log_files.json_keys import Way, column_ways
from behaviorlm.log_files.parquet_text import as_text, is_readable, is_sound, may_stay
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA, SourceFile, Span, quarantine_table
from behaviorlm.log_files.text import decoded, one_chunk

LEAST_ROWS_OF_GROUPS = 2**16
"""On average, where texts are read in dictionaries (our choice): half of a batch."""
_KNOWN = {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED"}


def open_parquet(source: SourceFile, named: Collection[str] = ()) -> pyarrow.parquet.ParquetFile:
    """named: columns whose texts are read in dictionaries, where that works.

    Raises DataError for what is not Parquet.
    """
    try:
        stream = open_random_access(source.path)
        parquet = data_only(pyarrow.parquet.ParquetFile(stream), source.path)
        columns = _in_dictionaries(parquet.metadata, named)
        if columns:
            told = parquet.metadata
            parquet = data_only(
                pyarrow.parquet.ParquetFile(stream, metadata=told, read_dictionary=columns), source.path
            )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        packing = packing_of(source.path)
        remedy = f"; Parquet inside of {packing} is not read, unpack it" if packing else ""
        raise DataError(f"{source.path}: not a readable Parquet file ({error}){remedy}") from None
    return parquet


def _in_dictionaries(metadata: pyarrow.parquet.FileMetaData, named: Collection[str]) -> list[str]:
    """Of these columns those that Arrow reads in dictionaries: not inside of others, in encodings of `_KNOWN`, and in
    groups of so many rows that batches, which then end with them, are hardly smaller.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)] if named else []
    if metadata.num_rows < LEAST_ROWS_OF_GROUPS * len(groups):
        return []
    return [
        metadata.schema.column(index).path
        for index in range(metadata.num_columns if groups else 0)
        if metadata.schema.column(index).path in named
        and all(_KNOWN.issuperset(group.column(index).encodings) for group in groups)
        and metadata.schema.column(index).name == metadata.schema.column(index).path
    ]


def parquet_columns(source: SourceFile, config: EventsConfig) -> list[str]:
    """The names of the columns, each as often as it is there; those inside of structs with dots.

    Raises DataError where a column that the mapping names is of a type that is not read.
    """
    with open_parquet(source) as parquet:
        _check_lists(parquet.schema_arrow, source, config)
        schema = _flat_schema(parquet.schema_arrow, config)
    problems = []
    for column in dict.fromkeys(file_columns(config).values()):
        for way in column_ways(schema, column)[:1]:
            value_type = _type_at(schema, way)
            if not is_readable(value_type):
                problems.append(_unreadable(source, column, value_type))
    if problems:
        raise DataError("\n".join(problems))
    return _names(schema)


def read_parquet_batches(
    source: SourceFile,
    config: EventsConfig,
    batch_rows: int,
    span: Span | None = None,
    typed: Collection[str] = (),
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `file_columns` and row, quarantined rows).

    With `explode` events are counted, not rows. typed: roles that stay as they are where their text says no more.
    """
    columns = file_columns(config)
    exact = [*IDENTITIES, *(column.role for column in config.order.columns if column.kind == "integer")]
    next_row = span.first_row if span is not None else 1
    named = [column for role, column in columns.items() if role in typed and not role.startswith("order")]
    with open_parquet(source, named) as parquet:
        ways = _ways(parquet.schema_arrow, source, config)
        lists = list_keys(config)
        roots = sorted({way[0] for way in ways.values()} | {key.partition(".")[0] for key in lists})
        try:
            groups = None if span is None else list(range(span.start, span.stop))
            for batch in parquet.iter_batches(batch_size=batch_rows, columns=roots, row_groups=groups):
                table = pa.table(batch)
                broken = QUARANTINE_SCHEMA.empty_table()
                if lists:
                    table, broken, next_row = _explode(table, lists, next_row, source)
                rows = np.arange(next_row, next_row + table.num_rows, dtype=np.int64)
                next_row += table.num_rows
                texts = [
                    pa.repeat(pa.scalar(source.given[column], pa.string()), table.num_rows)
                    if column in source.given
                    else _text(_values(table, ways[column]), role, column, source, exact, typed)
                    for role, column in columns.items()
                ]
                yield decoded(pa.table([*texts, rows], [*columns, "row"]), source, broken)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{source.path}: not readable from about row {next_row} on ({error})") from None


def _ways(schema: pa.Schema, source: SourceFile, config: EventsConfig) -> dict[str, Way]:
    """How each column is reached. Raises DataError for one that is not there, or there in two ways."""
    flat = _flat_schema(schema, config)
    found = {}
    for column in file_columns(config).values():
        if column in source.given:
            continue
        ways = column_ways(flat, column)
        if len(ways) != 1:
            there = (
                "there in two ways: with a dot in its name, and inside of another" if ways else "not there"
            )
            raise DataError(f"{source.path}: the column {column!r} is {there}")
        found[column] = ways[0]
    return found


def _values(table: pa.Table, way: Way) -> pa.Array:
    values = table[way[0]]
    return one_chunk(pc.struct_field(values, list(way[1:])) if len(way) > 1 else values)


def _text(
    whole: pa.Array,
    role: str,
    column: str,
    source: SourceFile,
    exact: Collection[str],
    typed: Collection[str],
) -> pa.Array:
    """A column as text. exact: roles in which no digit may be lost. typed: as of `read_parquet_batches`."""
    # An order may stay a timestamp, a name in its dictionary.
    if role in typed and pa.types.is_timestamp(whole.type) == role.startswith("order") and may_stay(whole):
        return whole
    if not is_readable(whole.type):
        raise DataError(_unreadable(source, column, whole.type))
    # Doubles hold times to the millisecond; smaller ones not to the minute.
    is_short = role.startswith("order") and whole.type in (pa.float16(), pa.float32())
    if is_short or (role in exact and pa.types.is_floating(whole.type)):
        refuse_lost_digits(whole, column, source.path)
    try:
        text = as_text(whole)
    except (ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{source.path}: the column {column!r} of type {whole.type} cannot be read as text ({error}); write it as "
            "text"
        ) from None
    return text if is_sound(text) else text.cast(pa.binary())  # its rows are set aside


def _is_list(value_type: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(kind(value_type) for kind in kinds)


def _explode(
    table: pa.Table, lists: list[str], next_row: int, source: SourceFile
) -> tuple[pa.Table, pa.Table, int]:
    """(a row for each item of the lists, quarantined rows, the number of the next row)."""
    for key in lists:
        values = table[key]
        table = table.set_column(
            table.column_names.index(key), key, values.cast(pa.large_list(values.type.value_type))
        )
    lengths = [pc.list_value_length(table[key]) for key in lists]
    is_sound = lengths[0].is_valid()
    for length in lengths[1:]:
        is_sound = pc.and_(is_sound, pc.fill_null(pc.equal(lengths[0], length), False))
    bad = np.flatnonzero(~np.asarray(is_sound))
    shown = [str(table.slice(index, 1).to_pylist()[0]) for index in bad.tolist()]
    rows = list(range(next_row, next_row + len(bad)))
    broken = quarantine_table(source.path, rows, ["malformed row"] * len(bad), list(shown))
    table = table.filter(is_sound).combine_chunks()
    parents = pc.list_parent_indices(one_chunk(table[lists[0]]))
    arrays: list[Any] = [
        pc.list_flatten(table[name]) if name in lists else table[name].take(parents)
        for name in table.column_names
    ]
    return pa.table(arrays, table.column_names), broken, next_row + len(bad)


def _check_lists(schema: pa.Schema, source: SourceFile, config: EventsConfig) -> None:
    for key in list_keys(config):
        at = schema.get_field_index(key)
        if at < 0 or not _is_list(schema.field(at).type):
            there = f"of type {schema.field(at).type}" if at >= 0 else "not there"
            raise DataError(
                f"{source.path}: the list {key!r} (events.explode) is {there}; a column of lists is needed"
            )


def _flat_schema(schema: pa.Schema, config: EventsConfig) -> pa.Schema:
    """The schema with items in the place of the lists that are exploded."""
    fields = []
    for field in schema:
        is_list = field.name in list_keys(config) and _is_list(field.type)
        fields.append(pa.field(field.name, field.type.value_type) if is_list else field)
    return pa.schema(fields)


def _type_at(schema: pa.Schema, way: Way) -> pa.DataType:
    value_type = schema.field(way[0]).type
    for part in way[1:]:
        value_type = value_type.field(part).type
    return value_type


def _names(fields: Any, prefix: str = "") -> list[str]:
    names = []
    for field in fields:
        names.append(prefix + field.name)
        if pa.types.is_struct(field.type):
            names += _names(field.type, f"{prefix}{field.name}.")
    return names


def _unreadable(source: SourceFile, column: str, value_type: pa.DataType) -> str:
    if _is_list(value_type):
        remedy = f"if each of its items is an event, set events.explode: {column}"
    elif pa.types.is_struct(value_type):
        remedy = f"name a value in it with a dot, such as {column}.{value_type.field(0).name}"
    else:
        remedy = "write it as text"
    return f"{source.path}: the column {column!r} is of type {value_type}; a plain value is needed: {remedy}"
