"""JSON lines as tables of text: block by block with Arrow, line by line only where a block is not plain."""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.encodings import name_of_encoding, utf8_blocks
from behaviorlm.log_files.explode import exploded, file_columns, list_keys, sound_events
from behaviorlm.log_files.json_keys import column_at, keys_in, schema_of, value_at
from behaviorlm.log_files.json_values import json_decoder, json_values, layout_of
from behaviorlm.log_files.source_files import ByteStream, SourceFile, quarantine_table

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
LAYOUT_BYTES = BLOCK_BYTES
"""What the first object may take where it stands on several lines."""
MOST_ROWS = 1 << 16
_DECODER = json_decoder()
_NULL_LINE = re.compile(rb"^[ \t]*null", re.MULTILINE)

# JSON values that Arrow turns into the same text as the line-by-line way. Fractions are not among them: their
# digits would be rounded.
PLAIN_TYPES: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


def json_blocks(stream: ByteStream, source: SourceFile, config: EventsConfig) -> Iterator[bytes]:
    """Blocks of the file as UTF-8; the first holds its first object, if that is within the size of a block."""
    blocks = utf8_blocks(iter(lambda: stream.read(BLOCK_BYTES), b""), source, config)
    first = b""
    for block in blocks:
        first += block
        if len(first) > LAYOUT_BYTES:
            break
    yield first
    yield from blocks


def head_columns(raw: bytes, source: SourceFile, config: EventsConfig, is_whole: bool) -> list[str] | None:
    """All keys of the objects in the first bytes of a file, in order of appearance; None if they hold no object.

    Keys of objects in objects come with dots. Raises DataError if nothing there is a JSON object.
    """
    head = b"".join(json_blocks(io.BytesIO(raw), source, config))
    keys: dict[str, None] = {}
    sound = False
    try:
        for value in _head_values(head, source):
            if isinstance(value, dict):
                sound = True
                keys |= dict.fromkeys(key for row in sound_events(value, config) for key in keys_in(row))
    except DataError:
        if is_whole and not sound and b"\0" not in head:
            raise
    if not sound and head.strip() not in (b"", b"[]"):
        in_utf16 = "; NUL bytes in it speak for events.encoding: utf-16-le" if b"\0" in head else ""
        raise DataError(
            f"{source.path}: no JSON object at its beginning; write one object a line, or an array of objects "
            f"(found {head.lstrip()[:80].decode('utf-8', errors='replace')!r}{in_utf16})"
        )
    return list(keys) if sound else None


def keys_in_lists(raw: bytes, source: SourceFile, config: EventsConfig) -> dict[str, set[str]]:
    """What the items of lists hold in the first bytes of a file: {key of the list: its items' keys, after its own}."""
    head = b"".join(json_blocks(io.BytesIO(raw), source, config))
    found: dict[str, set[str]] = {}
    with suppress(DataError):  # the head may end inside of a value
        for value in _head_values(head, source):
            for key, items in value.items() if isinstance(value, dict) else ():
                objects = (
                    [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
                )
                found.setdefault(key, set()).update(
                    f"{key}.{inner}" for item in objects for inner in keys_in(item)
                )
    return found


def _head_values(head: bytes, source: SourceFile) -> Iterator[Any]:
    """What the first bytes of a file hold, but for broken lines. Raises DataError as `json_values` does."""
    layout = layout_of(head[:LAYOUT_BYTES])
    if layout != "lines":
        yield from json_values([head], layout, source)
        return
    for line in head.splitlines():
        try:
            yield _DECODER.decode(line.decode("utf-8").strip())
        except (ValueError, RecursionError):
            continue


def read_json_batches(
    stream: ByteStream, source: SourceFile, config: EventsConfig, first_row: int = 1
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `file_columns` and row, quarantined rows).

    `row` is the line's number, or that of the object where there is not one a line; with `explode` events are counted.
    Raises DataError for a line or an object of over 64 MiB.
    """
    columns = file_columns(config)
    blocks = json_blocks(stream, source, config)
    first = next(blocks)
    layout = layout_of(first[:LAYOUT_BYTES]) if first_row == 1 else "lines"  # only lines have spans
    whole = chain([first], blocks)
    if layout != "lines":
        rows = _Rows(source, config, 1)
        for value in json_values(whole, layout, source):
            rows.add(value, value)
            if rows.is_full:
                yield rows.tables()
                rows = _Rows(source, config, rows.next_row)
        yield rows.tables()
        return
    next_row = first_row
    for block in _of_whole_lines(whole, source):
        table = _parse_block(block, columns, next_row) if not list_keys(config) else None
        if table is not None:
            next_row += table.num_rows
            yield _with_given(table, columns, source), quarantine_table(source.path, [], [], [])
            continue
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        rows = _Rows(source, config, next_row)
        for line in lines:
            rows.add_line(line)
        next_row = rows.next_row
        yield rows.tables()


def _of_whole_lines(blocks: Iterable[bytes], source: SourceFile) -> Iterator[bytes]:
    """Blocks of whole lines."""
    rest = b""
    for chunk in blocks:
        whole, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = tail
        else:
            rest += chunk
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(
                    f"{source.path}: a line of over {MAX_LINE_BYTES >> 20} MiB; write one object a line"
                )
    if rest:
        yield rest


def _parse_block(block: bytes, columns: dict[str, str], first_line: int) -> pa.Table | None:
    """The block by Arrow, or None where it has anything but plain rows, one a line."""
    names = list(dict.fromkeys(columns.values()))
    try:
        block.decode("utf-8")
        first = json.loads(block[: block.find(b"\n") + 1] or block)
        types = {name: PLAIN_TYPES.get(type(value_at(first, name)), pa.string()) for name in names}
        schema = schema_of(types)
        if schema is None:
            return None
        table = pyarrow.json.read_json(
            pa.BufferReader(block),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (ValueError, AttributeError, RecursionError):
        # pa.ArrowInvalid and UnicodeDecodeError are ValueErrors.
        return None
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    if table.num_rows != lines:
        return None
    found = {}
    for name in names:
        column = column_at(table, name)
        if column is None:
            return None
        found[name] = column
    if all(column.null_count for column in found.values()) and _NULL_LINE.search(block):
        return None  # to Arrow a row without values, line by line no object
    rows = np.arange(first_line, first_line + lines, dtype=np.int64)
    return pa.table([*(found[name].cast(pa.string()) for name in columns.values()), rows], [*columns, "row"])


class _Rows:
    """Rows that are read one by one. next_row: the number of the next."""

    def __init__(self, source: SourceFile, config: EventsConfig, next_row: int) -> None:
        self.next_row = next_row
        self._source, self._config = source, config
        self._columns = file_columns(config)
        self._values: dict[str, list[str | None]] = {role: [] for role in self._columns}
        self._rows: list[int] = []
        self._bad_rows: list[int] = []
        self._reasons: list[str] = []
        self._bad_values: list[str | None] = []

    @property
    def is_full(self) -> bool:
        """Whether it is time to make tables of them."""
        return len(self._rows) + len(self._bad_rows) >= MOST_ROWS

    def add_line(self, line: bytes) -> None:
        """Add what a line holds; nothing for a blank one."""
        if not line.strip():
            self.next_row += not list_keys(self._config)
            return
        shown = line[:400].decode("utf-8", errors="replace")
        try:
            value = _DECODER.decode(line.decode("utf-8").strip())
        except (ValueError, RecursionError) as error:
            self._set_aside(error, shown)
        else:
            self.add(value, shown)

    def add(self, value: Any, shown: Any) -> None:
        """Add the events of a JSON value. shown: what the quarantine tells of it, made to text."""
        try:
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")
            events = [
                {role: _text(value_at(row, column), column) for role, column in self._columns.items()}
                for row in exploded(value, self._config)
            ]
        except (ValueError, RecursionError) as error:
            self._set_aside(error, shown)
            return
        for texts in events:
            for role, text in texts.items():
                self._values[role].append(text)
            self._rows.append(self.next_row)
            self.next_row += 1

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """(table of text, quarantined rows)."""
        arrays = [pa.array(self._values[role], pa.string()) for role in self._columns]
        table = pa.table([*arrays, pa.array(self._rows, pa.int64())], [*self._columns, "row"])
        quarantine = quarantine_table(self._source.path, self._bad_rows, self._reasons, self._bad_values)
        return _with_given(table, self._columns, self._source), quarantine

    def _set_aside(self, error: Exception, shown: Any) -> None:
        self._bad_rows.append(self.next_row)
        self.next_row += 1
        is_of_encoding = isinstance(error, UnicodeError)
        self._reasons.append(f"not {name_of_encoding(self._config)}" if is_of_encoding else "malformed row")
        text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)[:400]
        self._bad_values.append(f"{error}: {text.encode('utf-8', 'replace').decode()}")


def _with_given(table: pa.Table, columns: Mapping[str, str], source: SourceFile) -> pa.Table:
    """The table with the columns that the file's folder names."""
    for role, column in columns.items():
        if column in source.given:
            constant = pa.repeat(pa.scalar(source.given[column], pa.string()), table.num_rows)
            table = table.set_column(table.column_names.index(role), role, constant)
    return table


def _text(value: Any, column: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # An escaped half of a surrogate pair is JSON, but no text.
        value.encode("utf-8")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = "a list" if isinstance(value, list) else "an object"
    raise ValueError(
        f"the value of {column!r} is not plain but {kind}; name a key in it with a dot, or set events.explode"
    )
