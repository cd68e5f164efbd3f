"""The bytes of a CSV file as Arrow's parser takes them: UTF-8 that begins with its header, one byte between values."""

import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_dialects import SEPARATOR_LINE, Dialect, dialect_of
from behaviorlm.log_files.encodings import NO_TEXT, utf8_blocks, with_valid_text
from behaviorlm.log_files.source_files import ByteStream, SourceFile, open_source

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
BEGINNING_BYTES = 64 << 10
SEPARATOR_LINE_BYTES = 64
_LINE_END = re.compile(rb"\r\n|\n|\r")


class CsvText(io.RawIOBase):
    """A CSV file for reading. Raises DataError while it is read, see `encodings` and `dialect_of`, and for a
    backslash before a quote in a quoted value where no escape was decided on.

    beginning: the first bytes as they stand in the file, as UTF-8. quotes: how many were read that are not escaped.
    """

    def __init__(self, stream: ByteStream, source: SourceFile, config: EventsConfig) -> None:
        self.source, self.config = source, config
        blocks = utf8_blocks(iter(lambda: stream.read(BLOCK_BYTES), b""), source, config)
        first = _with_lines(blocks, config.skip_rows)
        self.beginning = first[:BEGINNING_BYTES]
        first = first[_end_of_lines(first, config.skip_rows) :]
        self.dialect = dialect_of(first[:BEGINNING_BYTES], source, config)
        if (line := SEPARATOR_LINE.match(first)) is not None:
            first = first[line.end() :]
        self.quotes = 0
        self._passed = 0
        self._has_no_text = False
        self._lines = 1 + config.skip_rows + (line is not None)
        self._waiting = self._refined(chain([first], blocks))
        self._rest = b""

    def readable(self) -> bool:
        """Whether it is open for reading: yes."""
        return True

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """At most `size` bytes, none at the end."""
        while not self._rest:
            block = next(self._waiting, None)
            if block is None:
                return b""
            self._rest = block
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def replaced(self) -> list[tuple[bytes, bytes]]:
        """(what stands in values, what stood there in the file)."""
        dialect = self.dialect
        pairs = [(dialect.separator, dialect.delimiter)] if dialect.has_stand_in else []
        return [*pairs, (NO_TEXT.encode(), b"\xff")] if self._has_no_text else pairs

    def _refined(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        dialect, config = self.dialect, self.config
        if dialect.has_stand_in or dialect.escape is not None or config.comment is not None:
            blocks = _whole_lines(blocks, self.source)
        if dialect.has_stand_in:
            blocks = self._with_stand_ins(blocks)
        if config.comment is not None:
            blocks = _without_comments(blocks, config.comment.encode(), dialect)
        if dialect.escape is not None:
            blocks = map(dialect.with_plain_escapes, blocks)
        if config.column_names is not None:
            blocks = chain([_header(config.column_names, dialect) + next(blocks, b"")], blocks)
        last = b""
        for block in with_valid_text(blocks):
            if dialect.escape_is_open:
                # A single byte is found many times faster than two.
                if b"\\" in block or last == b"\\":
                    self._refuse_escapes(block, last)
                last = block[-1:]
                self._passed += len(block)
            if dialect.quote is not None:
                self.quotes += dialect.without_escaped(block).count(dialect.quote)
            self._has_no_text = self._has_no_text or (not block.isascii() and NO_TEXT.encode() in block)
            yield block

    def _with_stand_ins(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        dialect = self.dialect
        for block in blocks:
            if dialect.separator in block:
                raise DataError(
                    f"{self.source.path}: holds the control character {dialect.separator!r}, which stands for the "
                    f"separator {dialect.delimiter.decode()!r} here; write it with a separator of one character"
                )
            yield block.replace(dialect.delimiter, dialect.separator)

    def _refuse_escapes(self, block: bytes, last: bytes) -> None:
        """Raise DataError for a backslash before a quote within quotes: an escape to some, the end to others."""
        dialect = self.dialect
        quote = dialect.quote or b""
        if last == b"\\" and block[:1] == quote and self.quotes % 2:
            self._refuse_escape(block, 0)
        at, counted, quotes = block.find(b"\\" + quote), 0, self.quotes
        while at >= 0:
            quotes += block.count(quote, counted, at)
            counted = at
            start = 1 + max(block.rfind(b"\n", 0, at), block.rfind(b"\r", 0, at))
            if quotes % 2 or (start and dialect.ends_open(block[start:at])):
                self._refuse_escape(block, at)
            at = block.find(b"\\" + quote, at + 2)

    def _refuse_escape(self, block: bytes, at: int) -> None:
        start = 1 + max(block.rfind(b"\n", 0, at), block.rfind(b"\r", 0, at))
        end = _LINE_END.search(block, at)
        line = self.dialect.as_written(block[start : end.start() if end else None].decode(errors="replace"))
        number = self._lines + _line_ends(self.source, self.config, self._passed + at)
        raise DataError(
            f"{self.source.path}: in line {number} a backslash stands before a quote in a quoted value: "
            f"{line[:120]!r}. If the backslash escapes the quote (Spark, MySQL), set events.escape: '\\'; if it is "
            "text, and quotes are doubled, set events.escape: null"
        )


def _line_ends(source: SourceFile, config: EventsConfig, size: int) -> int:
    """How many lines end in so many bytes of a file after its first lines: read again, for it costs too much before."""
    found = 0
    with open_source(source) as stream:
        text = CsvText(stream, source, config.model_copy(update={"escape": None}))
        while size > 0 and (block := text.read(min(size, BLOCK_BYTES))):
            found += len(_LINE_END.findall(block))
            size -= len(block)
    return found


def _with_lines(blocks: Iterator[bytes], lines: int) -> bytes:
    """The first blocks, as many as it takes for so many whole lines and a bit of text more, or for all."""
    first = b""
    for block in blocks:
        first += block
        if len(first) > _end_of_lines(first, lines) + SEPARATOR_LINE_BYTES:
            break
    return first


def _end_of_lines(text: bytes, lines: int) -> int:
    """Where so many lines of the text end; its own end where it has not so many."""
    end = 0
    for _ in range(lines):
        found = _LINE_END.search(text, end)
        if found is None:
            return len(text)
        end = found.end()
    return end


def _whole_lines(blocks: Iterable[bytes], source: SourceFile) -> Iterator[bytes]:
    """The blocks cut after line ends."""
    rest = b""
    for block in blocks:
        # A CR at the very end may be half of a line end.
        cut = 1 + max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1))
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(f"{source.path}: a line of over {MAX_LINE_BYTES >> 20} MiB")
    if rest:
        yield rest


def _without_comments(blocks: Iterable[bytes], mark: bytes, dialect: Dialect) -> Iterator[bytes]:
    """The blocks of whole lines without those that begin with `mark`, but for such within a quoted value."""
    is_open = False
    for block in blocks:
        kept = []
        for line in block.splitlines(keepends=True):
            if is_open or not line.startswith(mark):
                kept.append(line)
                if dialect.quote is not None and dialect.quote in line:
                    is_open = dialect.ends_open(line, is_open)
        yield b"".join(kept)


def _header(names: list[str], dialect: Dialect) -> bytes:
    """A first row with these names."""
    quote, escape = dialect.quote or b"", dialect.escape
    fields = []
    for name in names:
        field = name.encode().replace(dialect.delimiter, dialect.separator)
        if escape is not None:
            field = field.replace(escape, escape * 2)
        if quote:
            field = field.replace(quote, quote * 2)
        fields.append(quote + field + quote)
    return dialect.separator.join(fields) + b"\n"
