"""Bytes of a log in any encoding become UTF-8; what is no text in it becomes bytes that are none in UTF-8 either."""

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.source_files import SourceFile

MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
"""Byte-order marks, the longer first, and what follows them."""
_NO_TEXT = "\udcff"
"""Stands for what could not be decoded: it is written as the byte 0xFF, which is never text in UTF-8."""
NO_TEXT = "\U0010fffe\U0010ffff"
"""The same as text that nobody writes."""
_CONTROLS = re.compile("[\x80-\x9f]")
_FIRST_CHARACTERS = re.compile(rb"[\x80-\xff]")


def utf8_blocks(blocks: Iterable[bytes], source: SourceFile, config: EventsConfig) -> Iterator[bytes]:
    """The blocks of a file as UTF-8, without a byte-order mark.

    Raises DataError where the bytes cannot be in the configured encoding: another mark at the beginning, UTF-8 where
    a code page is configured, or no NUL where UTF-16 is.
    """
    blocks = iter(blocks)
    first = next(blocks, b"")
    mark, marked = next(((mark, name) for mark, name in MARKS if first.startswith(mark)), (b"", None))
    encoding = _settled(marked, source, config)
    first = first[len(mark) :]
    if encoding == "utf-8":
        yield first
        yield from blocks
    else:
        yield from _decoded(first, blocks, encoding, source)


def with_valid_text(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks with `NO_TEXT` in the place of every byte that is not UTF-8: Arrow cannot tell of a row with such."""
    rest = b""
    for block in chain(blocks, [None]):
        is_last = block is None
        waiting = rest + (block or b"")
        if waiting.isascii():
            rest = b""
            yield waiting
            continue
        try:
            _, used = codecs.utf_8_decode(waiting, "strict", is_last)
            rest = waiting[used:]
            yield waiting[:used] if rest else waiting
        except UnicodeDecodeError:
            text, used = codecs.utf_8_decode(waiting, "behaviorlm.mark", is_last)
            rest = waiting[used:]
            yield text.replace(_NO_TEXT, NO_TEXT).encode()


def name_of_encoding(config: EventsConfig) -> str:
    """The encoding as messages name it."""
    return "UTF-8" if config.encoding == "auto" else config.encoding


def _settled(marked: str | None, source: SourceFile, config: EventsConfig) -> str:
    if config.encoding == "auto":
        return marked or "utf-8"
    name = codecs.lookup(config.encoding).name
    if marked is not None and name in ("utf-16", "utf-32") and marked.startswith(name):
        return marked
    name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(name, name)
    if marked in (None, name):
        return name
    raise DataError(
        f"{source.path}: begins with the byte-order mark of {marked}, but events.encoding is {config.encoding}; leave "
        "events.encoding out for such files"
    )


def _decoded(first: bytes, blocks: Iterable[bytes], encoding: str, source: SourceFile) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("behaviorlm.mark")
    is_wide = encoding.startswith(("utf-16", "utf-32"))
    is_to_be_checked = True
    for block in chain([first] if first else [], blocks):
        if is_to_be_checked and (is_wide or _FIRST_CHARACTERS.search(block)):
            _refuse_utf8(block, encoding, is_wide, source)
            is_to_be_checked = False
        yield _encoded(decoder.decode(block), encoding)
    yield _encoded(decoder.decode(b"", final=True), encoding)


def _refuse_utf8(block: bytes, encoding: str, is_wide: bool, source: SourceFile) -> None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(block)
    except UnicodeDecodeError:
        return
    if is_wide:
        if "\0" in text:
            return
        shown = text[:40]
    else:
        at = next((at for at, character in enumerate(text) if not character.isascii()), None)
        if at is None:
            return
        shown = text[max(0, at - 20) : at + 20]
    raise DataError(
        f"{source.path}: is UTF-8 (such as {shown!r}), not {encoding}, by which it would be read wrongly; leave "
        "events.encoding out"
    )


def _encoded(text: str, encoding: str) -> bytes:
    if encoding == "iso8859-1":
        # These are controls that nobody writes: the file is in cp1252, where they are quotes and dashes.
        text = _CONTROLS.sub(_NO_TEXT, text)
    return text.encode("utf-8", "surrogateescape")


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _NO_TEXT, error.end


codecs.register_error("behaviorlm.mark", _mark)
