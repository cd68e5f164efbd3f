"""How the rows of a CSV file are told apart: settled for each file by the mapping and by what the file says itself."""

import re
from dataclasses import dataclass
from functools import cached_property

from behaviorlm.errors import DataError
from behaviorlm.files.unpacking import without_packing
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.source_files import SourceFile

SEPARATOR_LINE = re.compile(rb'\A"?sep=(.{1,8}?)"?(?:\r\n|\n|\r|\Z)', re.IGNORECASE)
"""What Excel writes and obeys as the first line of a file."""
STAND_INS = (b"\x1f", b"\x1e", b"\x1d", b"\x1c")
"""One of these stands for a delimiter of several bytes while rows are parsed: Arrow knows one byte only."""


@dataclass(frozen=True)
class Dialect:
    """How one file is parsed.

    delimiter: as it stands in the file. separator: the one byte that rows are parsed by, see `STAND_INS`.
    escape_is_open: nobody said that there is no escape, so that a backslash before a quote is doubtful.
    """

    delimiter: bytes
    separator: bytes
    quote: bytes | None
    escape: bytes | None
    escape_is_open: bool

    @property
    def has_stand_in(self) -> bool:
        """Whether the delimiter is replaced before rows are parsed."""
        return self.separator != self.delimiter

    def as_parsed(self, name: str) -> str:
        """A column's name with the delimiter in it, if any, as it stands while rows are parsed."""
        return name.replace(self.delimiter.decode(), self.separator.decode()) if self.has_stand_in else name

    def as_written(self, text: str) -> str:
        """A text of parsed rows as it stands in the file."""
        return text.replace(self.separator.decode(), self.delimiter.decode()) if self.has_stand_in else text

    def ends_open(self, text: bytes, begins_open: bool = False) -> bool:
        """Whether a quoted value goes on after `text`, which begins a row, or is inside of a quoted value."""
        closed = self._closed_from_inside if begins_open else self._closed
        return self.quote is not None and closed.fullmatch(text) is None

    def without_escaped(self, text: bytes) -> bytes:
        """The text without characters that an escape took the meaning from."""
        return self._escaped.sub(b"", text) if self.escape is not None else text

    def with_plain_escapes(self, text: bytes) -> bytes:
        """The text with an escape doubled where it stands before an ordinary character, so that both are kept."""
        assert self.escape is not None
        if self.escape not in text:
            return text
        doubled = self.escape * 2
        return self._escape.sub(lambda match: doubled if match[1] is None else match[0], text)

    @cached_property
    def _closed(self) -> re.Pattern[bytes]:
        field, separator, _ = self._expressions
        return re.compile(b"(?:%s%s)*+%s" % (field, separator, field), re.DOTALL)

    @cached_property
    def _closed_from_inside(self) -> re.Pattern[bytes]:
        field, separator, rest = self._expressions
        return re.compile(b"%s(?:%s%s)*+" % (rest, separator, field), re.DOTALL)

    @cached_property
    def _expressions(self) -> tuple[bytes, bytes, bytes]:
        """(a value that is closed, the separator, what closes a value from inside)."""
        quote, separator = re.escape(self.quote or b""), re.escape(self.separator)
        escape = re.escape(self.escape or b"")
        inside = b"(?:%s[^%s]|%s%s)*+" % (
            escape + b".|" if escape else b"",
            quote + escape,
            quote,
            quote,
        )
        rest = b"%s%s[^%s]*+" % (inside, quote, separator)
        return (
            b"(?:%s%s|[^%s%s][^%s]*+|)" % (quote, rest, quote, separator, separator),
            separator,
            rest,
        )

    @cached_property
    def _escape(self) -> re.Pattern[bytes]:
        escape = re.escape(self.escape or b"")
        special = b"|".join(map(re.escape, filter(None, (self.escape, self.quote, self.separator))))
        return re.compile(rb"%s(%s|\r|\n)?" % (escape, special))

    @cached_property
    def _escaped(self) -> re.Pattern[bytes]:
        return re.compile(re.escape(self.escape or b"") + b".", re.DOTALL)


def dialect_of(beginning: bytes, source: SourceFile, config: EventsConfig) -> Dialect:
    """The dialect of a file whose text, as UTF-8 and after `skip_rows`, begins so.

    Raises DataError where a first line names another delimiter than the mapping.
    """
    line = SEPARATOR_LINE.match(beginning)
    told = line[1] if line is not None else None
    configured = None if config.delimiter == "auto" else config.delimiter.encode()
    if told is not None and configured is not None and told != configured:
        raise DataError(
            f"{source.path}: its first line says {line[0].decode(errors='replace').strip()!r}, but events.delimiter is "  # type: ignore[index]
            f"{config.delimiter!r}; leave events.delimiter out, or set events.skip_rows to pass over that line"
        )
    is_tabbed = without_packing(source.path).lower().endswith((".tsv", ".tab"))
    delimiter = told or configured or (b"\t" if is_tabbed else b",")
    separator = delimiter
    if len(delimiter) > 1:
        separator = next((sign for sign in STAND_INS if sign not in beginning), STAND_INS[0])
    quote = b'"' if config.quote == "auto" else config.quote.encode() if config.quote is not None else None
    escape_is_open = config.escape == "auto"
    escape = None if escape_is_open or config.escape is None else config.escape.encode()
    return Dialect(delimiter, separator, quote, escape, escape_is_open and quote is not None)
