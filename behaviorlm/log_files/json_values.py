"""JSON files that are not lines: an array of objects, or objects one after another over several lines, as a stream."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from behaviorlm.errors import DataError
from behaviorlm.log_files.json_keys import one_value_a_key
from behaviorlm.log_files.source_files import SourceFile

Layout = Literal["lines", "array", "objects"]
MAX_VALUE_CHARACTERS = 64 << 20
_BLANK = re.compile(r"[ \t\r\n]*")


def json_decoder() -> json.JSONDecoder:
    """A decoder that keeps numbers as they are written, and tells of keys that stand twice.

    NaN, which table tools write for nothing, is nothing.
    """
    return json.JSONDecoder(
        parse_float=str,
        parse_int=str,
        parse_constant=lambda name: None if name == "NaN" else name,
        object_pairs_hook=one_value_a_key,
    )


def layout_of(head: bytes) -> Layout:
    """How the beginning of a JSON file, as UTF-8, lays out its objects."""
    text = head.decode("utf-8", errors="replace").lstrip()
    if text.startswith("["):
        return "array"
    first_line = text.partition("\n")[0]
    try:
        json.loads(first_line)
        return "lines"
    except (ValueError, RecursionError):
        pass
    try:
        value, _ = json_decoder().raw_decode(text)
    except (ValueError, RecursionError):
        return "lines"
    return "objects" if isinstance(value, dict) else "lines"


def json_values(blocks: Iterable[bytes], layout: Layout, source: SourceFile) -> Iterator[Any]:
    """The values of a file that is laid out as an array or as objects one after another.

    Bytes that are not UTF-8 come as halves of characters. Raises DataError naming the value from which on the file
    cannot be read: values cannot be told apart any more then.
    """
    text = _Text(blocks, source)
    if layout == "objects":
        while text.sign():
            yield text.value()
        return
    while text.sign():  # mostly one array, but some write one a line
        yield from _values_of_array(text)


def _values_of_array(text: "_Text") -> Iterator[Any]:
    if text.sign() != "[":
        raise text.problem("no array, as before")
    text.at += 1
    is_first = True
    while (sign := text.sign()) != "]":
        if not is_first:
            if sign != ",":
                raise text.problem("the array has no end" if not sign else "no comma before the next")
            text.at += 1
            text.sign()
        yield text.value()
        is_first = False
    text.at += 1


class _Text:
    """The text of a file, read as far as it is needed. at: the place of the next character. count: values so far."""

    def __init__(self, blocks: Iterable[bytes], source: SourceFile) -> None:
        self.source = source
        self.at = self.count = 0
        self._blocks = iter(blocks)
        self._text, self._is_over = "", False
        self._to_text = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decode = json_decoder().raw_decode

    def sign(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self._text) or self._is_over:
                return self._text[self.at : self.at + 1]
            self._read_on(1)

    def value(self) -> Any:
        """The next value. Raises DataError where there is none."""
        while True:
            problem = "it has no end"
            try:
                value, end = self._decode(self._text, self.at)
                if end < len(self._text) or self._is_over:
                    self.at, self.count = end, self.count + 1
                    return value
            except (ValueError, RecursionError) as error:
                problem = str(error)
            waiting = len(self._text) - self.at
            if self._is_over or waiting > MAX_VALUE_CHARACTERS:
                raise self.problem(problem)
            self._read_on(2 * waiting + 1)

    def problem(self, what: str) -> DataError:
        """An error for what comes next."""
        return DataError(
            f"{self.source.path}: not readable as JSON after object {self.count} ({what}); objects of over "
            f"{MAX_VALUE_CHARACTERS >> 20} MiB are not read; write one object a line, or fetch the file again"
        )

    def _read_on(self, wanted: int) -> None:
        """Read until there are so many characters, or all of them."""
        pieces, length = [self._text[self.at :]], len(self._text) - self.at
        self.at = 0
        while length < wanted and not self._is_over:
            block = next(self._blocks, None)
            self._is_over = block is None
            pieces.append(self._to_text.decode(block or b"", final=self._is_over))
            length += len(pieces[-1])
        self._text = "".join(pieces)
