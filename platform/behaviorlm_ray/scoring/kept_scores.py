"""Files of scores that an attempt left which was cut short: what is whole of them is kept, not computed again."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from behaviorlm.errors import StorageError
from behaviorlm.files.data_only import data_only
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.storage import Location

PATTERN = "windows-*.parquet"
READERS = 8
OWNER, TOKENS, DIGEST = b"behaviorlm.owner", b"behaviorlm.tokens", b"behaviorlm.sha256"

Window = tuple[int, tuple[int, ...]]
"""A part of the prepared log, and rows of it that are scored together."""


@dataclass(frozen=True)
class CutShort:
    """Where earlier attempts at the same scores wrote them; owner: what the scores are of, in the files of all."""

    owner: str = ""
    folders: Sequence[Location] = ()


@dataclass
class KeptScores:
    """What was kept. tokens: those that went through the model for it."""

    windows: set[Window] = field(default_factory=set)
    tokens: int = 0

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(len(rows) for _, rows in self.windows)


def write_scores(path: Path, scores: pa.Table, owner: str, tokens: int) -> None:
    """Write a file of scores from which it can be seen whose they are, and whether anything of them has changed."""
    metadata = {OWNER: owner.encode(), TOKENS: str(tokens).encode()}
    metadata[DIGEST] = _digest(scores, metadata)
    pq.write_table(scores.replace_schema_metadata(metadata), path)


def keep_scores(cut_short: CutShort, target: Location, wanted: Iterable[Window]) -> KeptScores:
    """Take into `target` the earlier files that are whole, of the same owner, and all of whose windows are wanted.

    No window is kept twice. What cannot be read is told and left out. Raises StorageError if `target` cannot be
    written.
    """
    kept, left, names = KeptScores(), set(wanted), set[str]()
    with ThreadPoolExecutor(READERS) as readers:
        for folder in cut_short.folders:
            new = [
                name for name in _files_of(folder) if name not in names
            ]  # an attempt keeps files of those before
            if not new or not left:
                continue
            screen().says(
                f"looking at {len(new)} files of scores in {folder}, of an attempt that was cut short"
            )
            found = readers.map(_read, [folder / name for name in new], repeat(cut_short.owner))
            usable = []
            for name, read in zip(new, found, strict=True):
                if read is not None and read.windows and read.windows <= left:
                    left -= read.windows
                    kept.windows |= read.windows
                    kept.tokens += read.tokens
                    usable.append((read.path, target / name))
                    names.add(name)
            list(readers.map(_take, *zip(*usable, strict=True)) if usable else ())
    return kept


@dataclass(frozen=True)
class _File:
    path: Path
    windows: set[Window]
    tokens: int


def _files_of(folder: Location) -> list[str]:
    """Names of files of scores; not those that were never finished, which are hidden."""
    try:
        return [name for name in storage.list_files(folder) if fnmatch(name, PATTERN)]
    except StorageError as error:  # a writer that was given up may still be at work there
        screen().says(f"what an attempt that was cut short left is not used: {error}")
        return []


def _read(place: Location, owner: str) -> _File | None:
    try:
        path = storage.local_copy(place)
        table = data_only(pq.ParquetFile(path), place).read()
        metadata = table.schema.metadata or {}
        if metadata[DIGEST] != _digest(table, metadata):
            raise StorageError("its content has changed")
        if metadata[OWNER] != owner.encode():
            return None
        pairs = zip(table["part"].to_pylist(), table["rows"].to_pylist(), strict=True)
        return _File(path, {(part, tuple(rows)) for part, rows in pairs}, int(metadata[TOKENS]))
    except (OSError, pa.ArrowException, StorageError, KeyError, ValueError, TypeError) as error:
        screen().says(f"{place} is left from an attempt that was cut short, but cannot be read: {error}")
        return None


def _take(path: Path, target: Location) -> None:
    """By a hard link, which takes no room; by a copy where the file system or its rights allow none."""
    with storage.writing_file(target) as taken:
        try:
            os.link(path, taken)
        except OSError:
            shutil.copyfile(path, taken)


def _digest(table: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """Of names, types and values, whatever their layout in memory. The file's own bytes cannot hold their digest."""
    digest = hashlib.sha256(repr((metadata[OWNER], metadata[TOKENS])).encode())
    for name in table.column_names:
        column = table[name].combine_chunks()
        digest.update(repr((name, len(column))).encode())
        if pa.types.is_list(column.type):
            digest.update(pc.list_value_length(column).to_numpy(zero_copy_only=False).tobytes())
            column = column.flatten()
        digest.update(str(column.type).encode())
        digest.update(column.to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest().encode()
