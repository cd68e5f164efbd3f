"""The files of a log: finding them, telling their format, opening them, and the quarantine's table."""

import glob
import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zlib import error as ZlibError

import pyarrow as pa

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.config import EventsConfig, FileFormat
from behaviorlm.files.input_files import find_on_s3, is_on_s3, open_unpacked

SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

ByteStream = IO[bytes] | gzip.GzipFile

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
    """One file of a log, local or on S3. `size` is in bytes, as stored."""

    path: str
    size: int
    format: FileFormat


def list_files(config: EventsConfig) -> list[SourceFile]:
    """All files of the log, sorted by path, each once.

    Raises ConfigError for a path of unknown format or on another kind of storage, DataError for a pattern that
    matches nothing and for storage that cannot be listed; all at once.
    """
    found: dict[str, SourceFile] = {}
    missing, unknown = [], []
    for pattern in config.paths:
        if "://" in pattern and not is_on_s3(pattern):
            unknown.append(f"events.paths: {pattern!r}: only local files and s3://bucket/key are read")
            continue
        try:
            paths = _expand(pattern, config.format)
        except OSError as error:
            missing.append(f"events.paths: {pattern!r} cannot be listed ({error})")
            continue
        if not paths:
            missing.append(f"events.paths: {pattern!r} matches no file; {_what_is_there(pattern)}")
        for path, size in paths.items():
            file_format = config.format if config.format != "auto" else format_of(path)
            if file_format is None:
                unknown.append(
                    f"events.paths: {path} has no known suffix; set format to csv, jsonl or parquet"
                )
            else:
                found[path] = SourceFile(path, size, file_format)
    if unknown:
        raise ConfigError("\n".join(unknown + missing))
    if missing:
        raise DataError("\n".join(missing))
    return [found[path] for path in sorted(found)]


def format_of(path: str) -> FileFormat | None:
    """The format that a path's suffix names, a final .gz aside; None for an unknown one."""
    return SUFFIXES.get(Path(path.removesuffix(".gz")).suffix.lower())


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
    """Open for reading bytes, through gzip for .gz.

    A damaged or unreadable file becomes a DataError naming it, also while it is being read.
    """
    try:
        with open_unpacked(source.path) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, ZlibError) as error:
        raise DataError(
            f"{source.path}: a gzip file that ends too early or is damaged ({error}); fetch or write it again"
        ) from None
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error})") from None


def _expand(pattern: str, configured_format: str) -> dict[str, int]:
    """Sizes of the files that a pattern names, by path. Raises OSError for S3 that cannot be listed."""
    if is_on_s3(pattern):
        return find_on_s3(pattern, lambda path: configured_format != "auto" or format_of(path) is not None)
    return {path: os.path.getsize(path) for path in _expand_locally(pattern, configured_format)}


def _expand_locally(pattern: str, configured_format: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    # A folder with a bracket in its name is a folder, not a pattern.
    candidates = [pattern] if os.path.isdir(pattern) else sorted(glob.glob(pattern, recursive=True))
    paths: list[str] = []
    for candidate in candidates:
        if os.path.isdir(candidate):
            paths.extend(_files_below(candidate, configured_format))
        else:
            paths.append(candidate)
    return paths


def _files_below(folder: str, configured_format: str) -> list[str]:
    """Files of a folder without hidden ones, markers (`_SUCCESS`) and, with `auto`, unknown suffixes."""
    paths: list[str] = []
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name[0] not in "._")
        paths.extend(os.path.join(directory, name) for name in files if name[0] not in "._")
    return sorted(path for path in paths if configured_format != "auto" or format_of(path) is not None)


def _what_is_there(pattern: str) -> str:
    if os.path.isdir(pattern):
        return f"the folder holds no file with a suffix of {', '.join(SUFFIXES)} (for others set format)"
    if is_on_s3(pattern):
        return "is the bucket right, and AWS_ENDPOINT_URL if it is not AWS?"
    parent = Path(os.path.expanduser(pattern)).parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir())
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return f"{parent} holds {shown or 'nothing'}"
