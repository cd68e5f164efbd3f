"""Spans of large files: rows that can be read by themselves and keep the numbers that they have in the file.

Only where that is certain: rows of CSV files without quotes below the header, JSON lines, row groups of Parquet.
"""

import codecs
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.csv_dialects import SEPARATOR_LINE, dialect_of
from behaviorlm.events.encodings import MARKS
from behaviorlm.events.explode import list_keys
from behaviorlm.events.json_values import layout_of
from behaviorlm.events.parquet_files import open_parquet
from behaviorlm.events.source_files import ByteStream, SourceFile, Span, open_source
from behaviorlm.files.input_files import open_bytes
from behaviorlm.files.unpacking import packing_of, packing_of_bytes

SPAN_BYTES = 256 << 20
"""About how much of a file a span holds (our choice); files of up to twice that are read whole."""
HEAD_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
_CUT = re.compile(rb"\n(?=[ -~])")
"""A line end before which a span may end: what follows cannot be taken for a byte-order mark or another packing."""


@dataclass(frozen=True)
class Window:
    """Bytes of a file to look through for a place to cut. quote: what must not be there in CSV, if any.

    header: the line that the spans after the first are read with.
    """

    source: SourceFile
    start: int
    stop: int
    is_csv: bool
    quote: bytes
    header: bytes


@dataclass(frozen=True)
class Seen:
    """What was found in a window.

    cut: the first byte of a row; None where none was found. lines_before_cut: line ends between `start` and it. lines:
    line ends in the window. is_plain: whether each line is one row.
    """

    cut: int | None
    lines_before_cut: int
    lines: int
    is_plain: bool


def windows_of(source: SourceFile, config: EventsConfig, span_bytes: int = SPAN_BYTES) -> list[Window]:
    """The windows of a CSV or JSON file that is large and may be cut; none for others. Reads its beginning."""
    if source.size <= 2 * span_bytes or source.format == "parquet" or not _is_in_utf8(config):
        return []
    with open_source(source) as stream:
        head = stream.read(HEAD_BYTES)
    marks = [mark for mark, name in MARKS if name != "utf-8"]
    if packing_of(source.path) or _stored_packing(source) or head.startswith(tuple(marks)):
        return []
    text = head.removeprefix(codecs.BOM_UTF8)
    is_csv, header = source.format == "csv", b""
    if is_csv:
        if not _is_plain(config) or SEPARATOR_LINE.match(text) or text.startswith(b"\n") or b"\n" not in text:
            return []
        if config.column_names is None:
            header = head[: head.index(b"\n") + 1]
            first_row = text[: text.index(b"\n")]
            has_quotes = config.quote is not None
            if b"\r" in first_row or (has_quotes and dialect_of(text, source, config).ends_open(first_row)):
                return []
    elif list_keys(config) or layout_of(text) != "lines":
        return []
    quote = b'"' if config.quote == "auto" else (config.quote or "").encode()
    count = source.size // span_bytes
    bounds = [source.size * number // count for number in range(count + 1)]
    return [Window(source, start, stop, is_csv, quote, header) for start, stop in pairwise(bounds)]


def look_through(window: Window) -> Seen:
    """Read the bytes of a window once. Raises DataError where they cannot be read."""
    cut, before, lines, is_plain = None, 0, 0, True
    last = b"\n"  # an empty line at the beginning is one, too
    with _reading(window.source) as stored:
        if window.start:
            stored.seek(window.start - 1)
            last = stored.read(1)
        place = window.start
        while block := stored.read(min(BLOCK_BYTES, window.stop - place)):
            if window.is_csv and is_plain:
                after_header = len(window.header) if place == 0 else 0
                has_quote = bool(window.quote) and block.find(window.quote, after_header) >= 0
                has_blank = (last == b"\n" and block[:1] == b"\n") or b"\n\n" in block
                is_plain = not has_quote and not has_blank and b"\r" not in block
            if cut is None and window.start and place == window.start and (found := _CUT.search(block)):
                cut, before = place + found.end(), block.count(b"\n", 0, found.end())
            lines += block.count(b"\n")
            last = block[-1:]
            place += len(block)
    return Seen(cut, before, lines, is_plain)


def spans_of(windows: Sequence[Window], seen: Sequence[Seen]) -> list[Span]:
    """The spans of a file in their order, by what was found in all its windows; none where it is not to be cut."""
    if not windows or not all(one.is_plain for one in seen):
        return []
    first = windows[0]
    cuts, rows, lines = [0], [1], 0
    for one in seen:
        if one.cut is not None:
            cuts.append(one.cut)
            rows.append(lines + one.lines_before_cut + 1 - (first.header != b""))
        lines += one.lines
    ends = [*cuts[1:], first.source.size]
    return [
        Span(start, stop, row, first.header if start else b"")
        for start, stop, row in zip(cuts, ends, rows, strict=True)
    ]


def row_groups(source: SourceFile, config: EventsConfig, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """The spans of a large Parquet file, whose bounds are row groups; none for another file."""
    if source.format != "parquet" or source.size <= 2 * span_bytes or list_keys(config):
        return []
    with open_parquet(source) as parquet:
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
    rows_of_span = sum(sizes) * span_bytes / source.size
    spans, start, first_row, rows = [], 0, 1, 0
    for number, size in enumerate(sizes):
        rows += size
        if rows >= rows_of_span or number == len(sizes) - 1:
            spans.append(Span(start, number + 1, first_row))
            start, first_row, rows = number + 1, first_row + rows, 0
    return spans


@contextmanager
def open_span(source: SourceFile, span: Span | None) -> Iterator[ByteStream]:
    """Open a file, or the bytes of a span with its header before them. A fault becomes a DataError naming the file."""
    if span is None:
        with open_source(source) as stream:
            yield stream
        return
    with _reading(source) as stored:
        stored.seek(span.start)
        with io.BufferedReader(_Part(stored, span), BLOCK_BYTES) as part:
            yield part


class _Part(io.RawIOBase):
    """The header and the bytes of a span. State: what is left of both."""

    def __init__(self, stored: IO[bytes], span: Span) -> None:
        self._stored, self._header, self._left = stored, span.header, span.stop - span.start

    def readable(self) -> bool:
        """Whether it is open for reading: yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as bytes are left; returns their number."""
        if self._header:
            block, self._header = self._header[: len(buffer)], self._header[len(buffer) :]
        else:
            block = self._stored.read(min(len(buffer), self._left))
            self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)


@contextmanager
def _reading(source: SourceFile) -> Iterator[IO[bytes]]:
    """The file as it is stored. A fault becomes a DataError naming it."""
    try:
        with open_bytes(source.path) as stored:
            yield stored
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error})") from None


def _is_in_utf8(config: EventsConfig) -> bool:
    return config.encoding == "auto" or codecs.lookup(config.encoding).name == "utf-8"


def _is_plain(config: EventsConfig) -> bool:
    """Whether a line of a CSV file without quotes is a row."""
    is_plain = config.skip_rows == 0 and config.comment is None and config.escape in ("auto", None)
    return is_plain and (config.delimiter == "auto" or len(config.delimiter.encode()) == 1)


def _stored_packing(source: SourceFile) -> str | None:
    with _reading(source) as stored:
        return packing_of_bytes(stored.read(10))
