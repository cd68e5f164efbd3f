"""The files of a log: finding them, telling their format, opening them, and the quarantine's table."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote

import pyarrow as pa

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.files.equal_files import equal_files
from behaviorlm.files.finding import FoundFiles, drop_second_names, find_locally, in_natural_order
from behaviorlm.files.input_files import find_on_s3, is_on_s3
from behaviorlm.files.unpacking import PackingError, open_unpacked, packed_name, packing_of, without_packing
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.file_config import FileFormat

SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".parq": "parquet",
}
COMMON_SUFFIXES = (".txt", ".json")
"""Suffixes of much that is no log: in a folder, files of these count where they hold any of the log's columns."""
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
MOST_NAMES = 10
"""How many files a sentence lists by name."""

ByteStream = IO[bytes]

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("behavior", pa.string()),  # null where it could not be read
    ]
)
# Enough to recognize a row; a quarantine must not repeat the log.
MAX_QUARANTINE_VALUE_CHARACTERS = 200


@dataclass(frozen=True)
class SourceFile:
    """One file of a log, local or on S3. `size` is in bytes, as stored.

    is_surely: False where only a common suffix in a folder says that it belongs to the log. given: columns that it
    lacks, with the value that they have in all its rows: what a folder's name says (day=2024-05-31), or none.
    """

    path: str
    size: int
    format: FileFormat
    is_surely: bool = True
    given: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """Part of a file. start, stop: bytes of CSV and JSON lines, row groups of Parquet. first_row: the number of its
    first row in the file. header: what is read before it.
    """

    start: int
    stop: int
    first_row: int
    header: bytes = b""


@dataclass(frozen=True)
class FoundLog:
    """The files of a log in their order, and a sentence on whatever was passed over or found twice."""

    files: tuple[SourceFile, ...]
    notes: tuple[str, ...]


def find_files(config: EventsConfig) -> FoundLog:
    """All files of the log in natural order (part-10 after part-2), each once however many names lead to it.

    Raises ConfigError for a path of unknown format or on another kind of storage, DataError for a pattern that
    matches nothing and for storage that cannot be listed; all at once.
    """
    found = FoundFiles()
    missing, unknown = [], []
    for pattern in config.paths:
        if "://" in pattern and not is_on_s3(pattern):
            local = f"; write {pattern.removeprefix('file://')}" if pattern.startswith("file:///") else ""
            unknown.append(f"events.paths: {pattern!r}: only local files and s3://bucket/key are read{local}")
            continue
        try:
            is_there = _find(pattern, found)
        except OSError as error:
            missing.append(f"events.paths: {pattern!r} cannot be listed ({error})")
            continue
        if not is_there:
            missing.append(f"events.paths: {pattern!r} matches no file; {_what_is_there(pattern)}")
    drop_second_names(found)
    files, passed_over = [], []
    for path in in_natural_order(found.sizes):
        file_format = config.format if config.format != "auto" else format_of(path)
        if file_format is not None:
            is_surely = config.format != "auto" or path in found.named or _suffix(path) not in COMMON_SUFFIXES
            files.append(SourceFile(path, found.sizes[path], file_format, is_surely))
        elif path in found.named:
            unknown.append(f"events.paths: {path} has no known suffix; set format to csv, jsonl or parquet")
        else:
            passed_over.append(path)
    notes = [*_notes(found, passed_over), *_doubled(files, found)]
    if not files and not missing and not unknown:
        missing.append(
            f"events.paths: {', '.join(config.paths)}: the folder holds no file with a suffix of "
            f"{', '.join(SUFFIXES)} (for others set format){''.join(f'; {note}' for note in notes)}"
        )
    if unknown:
        raise ConfigError("\n".join(unknown + missing))
    if missing:
        raise DataError("\n".join(missing))
    return FoundLog(tuple(files), tuple(notes))


def format_of(path: str) -> FileFormat | None:
    """The format that a path's suffix names, in any case and whatever packs it; None for an unknown one.

    A zip file without such a suffix is opened for the name of what it holds. Raises DataError for a broken one.
    """
    known = SUFFIXES.get(_suffix(path))
    if known is None and packing_of(path) == "zip":
        try:
            return SUFFIXES.get(_suffix(packed_name(path)))
        except PackingError as error:
            raise DataError(str(error)) from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
    return known


def folder_values(path: str) -> Mapping[str, str | None]:
    """What the folders of a path say of the rows below them: {day: 2024-05-31} for …/day=2024-05-31/…"""
    pairs = [part.partition("=") for part in path.split("/")[:-1]]
    return {
        unquote(name): None if value == NO_PARTITION else unquote(value)
        for name, sign, value in pairs
        if sign
    }


def listed(paths: Sequence[str]) -> str:
    """Some paths as words: the first ten by name."""
    more = f" and {len(paths) - MOST_NAMES:,} more" if len(paths) > MOST_NAMES else ""
    return ", ".join(paths[:MOST_NAMES]) + more


def quarantine_table(
    path: str,
    rows: list[int],
    reasons: list[str],
    values: list[str | None],
    behaviors: Sequence[str | None] | None = None,
) -> pa.Table:
    """Quarantined rows of one file; values are cut to 200 characters. behaviors: None where they are not known."""
    cut, named = (
        [text if text is None else text[:MAX_QUARANTINE_VALUE_CHARACTERS] for text in texts]
        for texts in (values, behaviors or [None] * len(rows))
    )
    return pa.table([[path] * len(rows), rows, reasons, cut, named], schema=QUARANTINE_SCHEMA)


@contextmanager
def open_source(source: SourceFile) -> Iterator[ByteStream]:
    """Open for reading bytes, unpacked.

    A damaged or unreadable file becomes a DataError naming it, also while it is being read.
    """
    try:
        with open_unpacked(source.path) as stream:
            yield stream
    except PackingError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error})") from None


def text_of_link(path: str) -> str | None:
    """The path that a small file holds instead of a log: a link that was copied as text. None for other files."""
    if is_on_s3(path) or os.path.getsize(path) > 1024:
        return None
    with open(path, "rb") as stream:
        text = stream.read().decode("utf-8", errors="replace").strip()
    leads_to = os.path.join(os.path.dirname(path), text)
    return text if text and "\n" not in text and os.path.exists(leads_to) else None


def _suffix(path: str) -> str:
    return PurePosixPath(without_packing(path)).suffix.lower()


def _find(pattern: str, found: FoundFiles) -> bool:
    """Add the files that a pattern names; returns whether there is anything of that name. Raises OSError."""
    if not is_on_s3(pattern):
        return find_locally(pattern, found)
    below: set[str] = set()
    other = found.in_other_case.append
    sizes = find_on_s3(pattern, lambda path: not below.add(path), other)  # type: ignore[func-returns-value]
    found.hidden += len(below - sizes.keys())
    found.sizes.update(sizes)
    found.named |= sizes.keys() - below
    return bool(sizes)


def _notes(found: FoundFiles, passed_over: Sequence[str]) -> list[str]:
    """What the user should know of the files that are not read, or have a second name."""
    notes = []
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for path in passed_over:
        if (text := text_of_link(path)) is not None:
            notes.append(f"{path}: passed over: it holds only {text!r}, a link that was copied as text")
        else:
            by_suffix[PurePosixPath(path).suffix.lower()].append(path)
    for suffix, paths in sorted(by_suffix.items()):
        reason = f"the suffix {suffix} is not read" if suffix else "no suffix says what they are"
        notes.append(f"passed over, for {reason} (set format to read them): {listed(paths)}")
    if found.broken:
        notes.append(
            f"passed over, for these are links to nowhere, or no files: {listed(in_natural_order(found.broken))}"
        )
    if other := in_natural_order({*found.in_other_case} - found.sizes.keys()):
        notes.append(f"passed over, for the glob has its letters in another case: {listed(other)}")
    if found.hidden:
        notes.append(
            f"passed over: {found.hidden:,} hidden files, folders and markers (named with a dot or underscore in front)"
        )
    notes += [f"{path} is {first} by another name: read once" for path, first in found.repeated[:MOST_NAMES]]
    if len(found.repeated) > MOST_NAMES:
        notes.append(f"{len(found.repeated) - MOST_NAMES:,} more are such second names: read once")
    return notes


def _doubled(files: Sequence[SourceFile], found: FoundFiles) -> list[str]:
    """What the user should know of files that are read and seem to hold the same."""
    notes = [
        f"{path} and {first} hold the same bytes: both are read, and each event of them counts twice"
        if is_certain
        else f"{path} and {first} seem to be the same: of one size, and equal at the beginning, the middle and the "
        "end; both are read"
        for path, first, is_certain in equal_files({file.path: file.size for file in files})
        if folder_values(path) == folder_values(first)
    ]
    return notes + [
        f"{path} seems to be {without_packing(path)} in a packed form: both are read"
        for path in found.sizes
        if packing_of(path) and without_packing(path) in found.sizes
    ]


def _what_is_there(pattern: str) -> str:
    if is_on_s3(pattern):
        return "is the bucket right, and AWS_ENDPOINT_URL if it is not AWS?"
    parent = Path(os.path.expanduser(pattern)).parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir())
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return f"{parent} holds {shown or 'nothing'}"
