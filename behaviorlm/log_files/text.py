"""Tables of text: what every format is read as, and how bytes become text."""

import numpy as np
import pyarrow as pa

from behaviorlm.log_files.config import EventsConfig, source_columns
from behaviorlm.log_files.source_files import SourceFile, quarantine_table


def table_schema(config: EventsConfig) -> pa.Schema:
    """A nullable string for each role of `config.source_columns`, and row int64.

    `row` is 1-based: the data row of a CSV or Parquet file (empty lines do not count), the line of JSON lines.
    """
    return pa.schema([*((role, pa.string()) for role in source_columns(config)), ("row", pa.int64())])


def with_typed(text: pa.Schema, found: pa.Schema) -> pa.Schema:
    """A schema of text, but for the columns that were found to be timestamps or in a dictionary."""
    stay = {
        field.name: field
        for field in found
        if pa.types.is_timestamp(field.type) or pa.types.is_dictionary(field.type)
    }
    return pa.schema([stay.get(field.name, field) for field in text])


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; not copied where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _shown(value: bytes | str | None) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value or ""


def decoded(
    table: pa.Table, source: SourceFile, quarantine: pa.Table, encoding: str = "UTF-8"
) -> tuple[pa.Table, pa.Table]:
    """Bytes to text; rows that are not UTF-8 go to the end of the quarantine. The last column is `row`.

    encoding: what the file is written in, for the reason; it was turned into UTF-8 before.
    """
    names = ((name, pa.int64() if name == "row" else pa.string()) for name in table.column_names)
    text = with_typed(pa.schema(list(names)), table.schema)
    try:
        return table.cast(text), quarantine
    except pa.ArrowInvalid:
        pass
    is_text = np.ones(table.num_rows, dtype=bool)
    bad_values: dict[int, str] = {}
    behaviors = table["behavior"] if "behavior" in table.column_names else pa.nulls(table.num_rows)
    for name in table.column_names[:-1]:
        if table[name].type not in (pa.binary(), pa.large_binary()):
            continue
        for index, value in enumerate(table[name].to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                is_text[index] = False
                bad_values.setdefault(index, value.decode("utf-8", errors="replace"))
    bad = sorted(bad_values)
    rows = table["row"].to_numpy()[bad].tolist()
    not_text = quarantine_table(
        source.path,
        rows,
        [f"not {encoding}"] * len(bad),
        [bad_values[index] for index in bad],
        # Damaged as it may be, it tells of which behavior rows are lost.
        [_shown(behaviors[index].as_py()).strip() or None for index in bad],
    )
    return table.filter(pa.array(is_text)).cast(text), pa.concat_tables([quarantine, not_text])
