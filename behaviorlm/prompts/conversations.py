"""Auxiliary conversations: general chat data that keeps a model's general knowledge alive while it is tuned.

That A-Tuning mixes such conversations in is the paper's; format, ratio, weight and loss are our choice.
"""

import glob
import hashlib
import io
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.errors import DataError
from behaviorlm.files.data_only import data_only
from behaviorlm.files.input_files import find_on_s3, is_on_s3, open_random_access
from behaviorlm.files.unpacking import open_unpacked
from behaviorlm.prompts.config import AuxiliarySource

Message = dict[str, str]
_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class QuarantinedConversation:
    """A conversation that cannot be used: the file, its 1-based row and the reason."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class ConversationSet:
    """The usable conversations of a source, in the order of files and rows, and those that are not."""

    conversations: list[list[Message]]
    quarantine: list[QuarantinedConversation]

    @property
    def quarantine_counts(self) -> dict[str, int]:
        """How many conversations were set aside, per reason."""
        return dict(Counter(item.reason for item in self.quarantine))


def read_conversations(source: AuxiliarySource) -> ConversationSet:
    """All conversations of a source.

    A usable one has an optional system message, then user and assistant messages by turns, the assistant
    last, each with text. Raises DataError naming the file for missing or unreadable files and for too many
    unusable rows.
    """
    found = _gathered(source, _read_all(source))
    check_quarantine(source, found.quarantine_counts, len(found.conversations), found.quarantine[:1])
    return found


@dataclass(frozen=True)
class FirstConversations:
    """Those among the first rows of a source, and whether they are all of it."""

    read: ConversationSet
    are_all: bool


def read_first_conversations(source: AuxiliarySource, most: int) -> FirstConversations:
    """The conversations among the first `most` rows of a source.

    Raises DataError as `read_conversations` does for missing and unreadable files, and where none of them can be used;
    where they are all, for too many unusable ones as well.
    """
    rows = list(itertools.islice(_read_all(source), most + 1))
    found, are_all = _gathered(source, rows[:most]), len(rows) <= most
    if are_all or not found.conversations:
        check_quarantine(source, found.quarantine_counts, len(found.conversations), found.quarantine[:1])
    return FirstConversations(found, are_all)


def _read_all(source: AuxiliarySource) -> Iterator[tuple[str, int, Any]]:
    """(file, 1-based row, what stands under its messages key)."""
    for path in source_files(source):
        yield from ((path, row, value) for row, value in _read_rows(path, source))


def _gathered(source: AuxiliarySource, rows: Iterable[tuple[str, int, Any]]) -> ConversationSet:
    """Rows sorted into usable ones and others. Raises DataError where there is none."""
    found = ConversationSet([], [])
    for path, row, value in rows:
        checked = _checked_messages(value)
        if isinstance(checked, str):
            found.quarantine.append(QuarantinedConversation(path, row, checked))
        else:
            found.conversations.append(checked)
    if not found.conversations and not found.quarantine:
        raise DataError(f"auxiliary source {source.name!r}: {', '.join(source.paths)} hold no conversations")
    return found


def check_quarantine(
    source: AuxiliarySource,
    reasons: Mapping[str, int],
    usable: int,
    examples: Sequence[QuarantinedConversation] = (),
) -> None:
    """Raise DataError if too large a share of a source's conversations cannot be used. reasons: how
    many for each reason."""
    unusable = sum(reasons.values())
    if unusable > source.max_quarantine_share * (unusable + usable):
        listed = ", ".join(
            f"{reason}: {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
        )
        shown = "".join(f"; the first is row {one.row} of {one.file}: {one.reason}" for one in examples[:1])
        raise DataError(
            f"auxiliary source {source.name!r}: {unusable} of {unusable + usable} conversations cannot be used "
            f"({listed}), more than max_quarantine_share {source.max_quarantine_share:g}{shown}"
        )


def conversation_id(messages: Sequence[Message]) -> bytes:
    """16 bytes that name a conversation by its content."""
    content = json.dumps([[message["role"], message["content"]] for message in messages], ensure_ascii=True)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def split_holdout(ids: Sequence[bytes], share: float, seed: int) -> np.ndarray:
    """Which conversations are held out: bool, one per id.

    Depends on each id and the seed alone, so neither order nor additions move a conversation, and copies of
    one go together.
    """
    key = seed.to_bytes(16, "big", signed=True)
    drawn = [int.from_bytes(hashlib.blake2b(item, digest_size=8, key=key).digest(), "big") for item in ids]
    return np.array([number < share * 2.0**64 for number in drawn], bool)


def _checked_messages(value: Any) -> list[Message] | str:
    """The messages with their texts stripped, or the reason why they cannot be used."""
    if not isinstance(value, list) or not value:
        return "no list of messages"
    messages: list[Message] = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            return "a message without text"
        content = item["content"].strip()
        if not content:
            return "an empty message"
        messages.append({"role": str(item.get("role")), "content": content})
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or [message["role"] for message in turns] != expected:
        return "roles other than an optional system, then user and assistant by turns"
    return messages


def source_files(source: AuxiliarySource) -> list[str]:
    """The files of a source, sorted. Raises DataError for a path or pattern that matches nothing."""
    found: set[Path] = set()
    found_on_s3: set[str] = set()
    for pattern in source.paths:
        if is_on_s3(pattern):
            found_on_s3.update(_on_s3(source, pattern))
            continue
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = [item for item in path.rglob("*") if item.is_file() and item.name.endswith(_SUFFIXES)]
        elif path.is_file():
            matches = [path]
        else:
            matches = [item for item in map(Path, glob.glob(str(path), recursive=True)) if item.is_file()]
        if not matches:
            raise DataError(
                f"auxiliary source {source.name!r}: paths: nothing found at {pattern} (a file, a folder with "
                f"{', '.join(_SUFFIXES)} files, or a glob)"
            )
        found.update(matches)
    return [*map(str, sorted(found)), *sorted(found_on_s3)]


def _on_s3(source: AuxiliarySource, pattern: str) -> list[str]:
    try:
        found = list(find_on_s3(pattern, lambda path: path.endswith(_SUFFIXES)))
    except OSError as error:
        raise DataError(
            f"auxiliary source {source.name!r}: paths: {pattern} cannot be listed ({error})"
        ) from None
    if not found:
        raise DataError(f"auxiliary source {source.name!r}: paths: nothing found at {pattern}")
    return found


def _read_rows(path: str, source: AuxiliarySource) -> Iterator[tuple[int, Any]]:
    """(1-based row, the value under its messages key or None)."""
    is_parquet = path.endswith(".parquet") if source.format == "auto" else source.format == "parquet"
    if source.format == "auto" and not path.endswith(_SUFFIXES):
        raise DataError(
            f"auxiliary source {source.name!r}: the format of {path} cannot be told by its suffix; set "
            "format to jsonl or parquet"
        )
    try:
        yield from _read_parquet(path, source) if is_parquet else _read_json_lines(path, source)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"auxiliary source {source.name!r}: {path} is not readable: {error}") from None


def _read_json_lines(path: str, source: AuxiliarySource) -> Iterator[tuple[int, Any]]:
    # Rows are physical lines, so that a reported row is found in an editor; blank lines hold no conversation.
    with open_unpacked(path) as stream, io.TextIOWrapper(stream, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row.get(source.messages) if isinstance(row, dict) else None


def _read_parquet(path: str, source: AuxiliarySource) -> Iterator[tuple[int, Any]]:
    with data_only(pq.ParquetFile(open_random_access(path)), path) as file:
        columns = file.schema_arrow.names
        if source.messages not in columns:
            raise DataError(
                f"auxiliary source {source.name!r}: {path} has no column {source.messages!r}; it has "
                f"{', '.join(columns)}. Set messages to the right one"
            )
        batches = file.iter_batches(columns=[source.messages])
        yield from enumerate((value for batch in batches for value in batch.column(0).to_pylist()), start=1)
