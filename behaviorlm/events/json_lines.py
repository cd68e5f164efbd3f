"""JSON lines as tables of text: block by block with Arrow, line by line only where a block is not plain."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from behaviorlm.errors import DataError
from behaviorlm.events.source_files import ByteStream, SourceFile, quarantine_table

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20

# JSON values that Arrow turns into the same text as the line-by-line way. Fractions are not among them: their
# digits would be rounded.
PLAIN_TYPES: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


def head_columns(head: bytes, source: SourceFile) -> list[str] | None:
    """All keys of the objects in the head of a file, in order of appearance; None if it holds no line.

    Raises DataError if no line of the head is a JSON object.
    """
    lines = head.splitlines()
    keys: dict[str, None] = {}
    sound = False
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            sound = True
            keys.update(dict.fromkeys(value))
    if not sound and any(line.strip() for line in lines):
        raise DataError(
            f"{source.path}: no JSON object on a line of its own at its beginning; write one object a line "
            f"(found {lines[0][:80].decode('utf-8', errors='replace')!r})"
        )
    return list(keys) if sound else None


def read_json_line_batches(
    stream: ByteStream, source: SourceFile, columns: dict[str, str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stream (table of text with the roles of `columns` and row, quarantined rows); `row` is the line's
    number.

    Raises DataError for a line of over 64 MiB.
    """
    first_line = 1
    for block in _blocks(stream, source):
        table = _parse_block(block, columns, first_line)
        if table is not None:
            first_line += table.num_rows
            yield table, quarantine_table(source.path, [], [], [])
            continue
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        yield _parse_lines(lines, source, columns, first_line)
        first_line += len(lines)


def _blocks(stream: ByteStream, source: SourceFile) -> Iterator[bytes]:
    """Blocks of whole lines."""
    rest = b""
    is_first = True
    while chunk := stream.read(BLOCK_BYTES):
        if is_first:
            chunk, is_first = chunk.removeprefix(b"\xef\xbb\xbf"), False
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
        types = [PLAIN_TYPES.get(type(first.get(name, "")), pa.string()) for name in names]
        table = pyarrow.json.read_json(
            pa.BufferReader(block),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(zip(names, types, strict=True)), unexpected_field_behavior="ignore"
            ),
        )
    except (ValueError, AttributeError, RecursionError):
        # pa.ArrowInvalid and UnicodeDecodeError are ValueErrors.
        return None
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    if table.num_rows != lines:
        return None
    rows = np.arange(first_line, first_line + lines, dtype=np.int64)
    return pa.table([*(table[name].cast(pa.string()) for name in columns.values()), rows], [*columns, "row"])


def _parse_lines(
    lines: list[bytes], source: SourceFile, columns: dict[str, str], first_line: int
) -> tuple[pa.Table, pa.Table]:
    values: dict[str, list[str | None]] = {role: [] for role in columns}
    rows: list[int] = []
    bad_rows: list[int] = []
    reasons: list[str] = []
    bad_values: list[str | None] = []
    for number, line in enumerate(lines, start=first_line):
        if not line.strip():
            continue
        try:
            texts = _texts(line, columns)
        except (ValueError, RecursionError) as error:
            bad_rows.append(number)
            reasons.append("not UTF-8" if isinstance(error, UnicodeError) else "malformed row")
            bad_values.append(f"{error}: {line[:400].decode('utf-8', errors='replace')}")
            continue
        rows.append(number)
        for role, text in texts.items():
            values[role].append(text)
    arrays = [pa.array(values[role], pa.string()) for role in columns]
    table = pa.table([*arrays, pa.array(rows, pa.int64())], [*columns, "row"])
    return table, quarantine_table(source.path, bad_rows, reasons, bad_values)


def _texts(line: bytes, columns: dict[str, str]) -> dict[str, str | None]:
    """The needed values of one line as text, numbers with the digits as written. Raises ValueError."""
    row = json.loads(line.decode("utf-8"), parse_float=str, parse_int=str)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return {role: _text(row.get(column), column) for role, column in columns.items()}


def _text(value: Any, column: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # An escaped half of a surrogate pair is JSON, but no text.
        value.encode("utf-8")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError(f"the value of {column!r} is not plain")
