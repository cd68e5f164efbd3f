"""The columns of a log: every file's head is looked at, and what is missing is named with what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_files import HEAD_BYTES, csv_head
from behaviorlm.log_files.csv_remedies import head_problem, remedy
from behaviorlm.log_files.explode import file_columns, list_keys
from behaviorlm.log_files.foreign_files import refuse_foreign
from behaviorlm.log_files.json_lines import MAX_LINE_BYTES, head_columns, keys_in_lists
from behaviorlm.log_files.parquet_files import parquet_columns
from behaviorlm.log_files.source_files import (
    ByteStream,
    FoundLog,
    SourceFile,
    folder_values,
    listed,
    open_source,
    text_of_link,
)

MOST_COLUMNS = 40
NOTHING = b" \t\r\n\0\xef\xbb\xbf\xff\xfe"
"""Bytes that alone are no row: blanks, line ends, byte-order marks."""


@dataclass(frozen=True)
class Head:
    """What a file's head says. names: its columns; None for a JSON file without any row. problem: what is wrong with a
    CSV file that has them. Nothing else of it is kept: there may be very many files.
    """

    source: SourceFile
    names: Sequence[str] | None
    problem: str | None = None


Lacking = dict[tuple[str, str], list[str]]
"""Files that lack a column without harm, by it and what of that is told."""


def check_columns(config: EventsConfig, files: Sequence[SourceFile]) -> FoundLog:
    """Read only the heads of the files and check that the configured columns are there; the files with what they lack
    (`SourceFile.given`), and sentences on what is left out or empty.

    A context column may be missing in files as long as one has it; a JSON object may leave out any key. A column may
    be named by folders (day=2024-05-31). Raises DataError with all missing columns at once: the file, the column, the
    key that names it, what is there, and what to do.
    """
    heads = [_head(source, config) for source in files]
    notes = []
    empty = [head.source.path for head in heads if head.source.format == "csv" and head.names is None]
    if empty and len(empty) == len(heads):
        raise DataError(f"{listed(empty)} is empty: a CSV file needs a row with the names of its columns")
    if empty:  # as programs leave them for parts without rows
        notes.append(f"passed over, for there is nothing in them, not even a header: {listed(empty)}")
        heads = [head for head in heads if head.source.path not in empty]
    wanted = set(file_columns(config).values())
    strangers = [
        head.source.path
        for head in heads
        if not head.source.is_surely and head.names is not None and not wanted & set(head.names)
    ]
    if strangers and len(strangers) < len(heads):
        notes.append(f"passed over, for they hold none of the log's columns: {listed(strangers)}")
        heads = [head for head in heads if head.source.path not in strangers]
    seen = {name for head in heads for name in head.names or ()}
    problems: list[str] = []
    lacking: Lacking = {}
    kept = [replace(head.source, given=_given(head, seen, config, problems, lacking)) for head in heads]
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    notes += [f"{what} {column!r}: {listed(paths)}" for (column, what), paths in lacking.items()]
    return FoundLog(tuple(kept), tuple(notes))


def _given(
    head: Head, seen: set[str], config: EventsConfig, problems: list[str], lacking: Lacking
) -> dict[str, str | None]:
    """The columns that a file lacks without harm, and their value in all its rows; what is wrong is noted."""
    if head.names is None:
        return {}
    source, given = head.source, dict[str, str | None]()
    if head.problem is not None:
        problems.append(f"{source.path}: {head.problem}")
    by_folders = folder_values(source.path)
    for role, column in file_columns(config).items():
        if head.names.count(column) > 1:
            problems.append(f"{source.path}: the column {column!r} ({_key_of(role)}) is there more than once")
        elif column in head.names:
            continue
        elif column in by_folders:
            given[column] = by_folders[column]
        elif column in seen and source.format == "jsonl":
            lacking.setdefault((column, "no object at the beginning has"), []).append(source.path)
        elif column in seen and "." in role:
            given[column] = None
            lacking.setdefault((column, "read as empty, where there is no column"), []).append(source.path)
        else:
            is_first = not any(problem.startswith(f"{source.path}: no column") for problem in problems)
            there = _there(head, column, config, is_first)
            problems.append(f"{source.path}: no column {column!r} ({_key_of(role)}); {there}")
    return given


def column_names(source: SourceFile, config: EventsConfig) -> list[str]:
    """The names of a file's columns, as far as its head tells them."""
    return list(_head(source, config).names or ())


def _key_of(role: str) -> str:
    keys = {"order": "events.order.column", "split_label": "events.split_column"}
    if role.startswith("order_"):
        role = "order"
    if "@" in role:
        kind, _, number = role.partition("@")
        return f"events.explode.{number}.{kind}"
    kind, dot, _ = role.partition(".")
    return f"events.context_{kind}" if dot else keys.get(role, f"events.{role}")


def _there(head: Head, column: str, config: EventsConfig, with_remedy: bool) -> str:
    names = list(head.names or ())
    if (leads_to := text_of_link(head.source.path)) is not None:
        return f"it holds only {leads_to!r}, a link that was copied as text: name that file instead"
    shown = "columns there: " + ", ".join(names[:MOST_COLUMNS]) + (", …" if len(names) > MOST_COLUMNS else "")
    similar = [name for name in names if _is_similar(name, column)]
    if similar:
        shown += f"; did you mean {' or '.join(map(repr, similar[:3]))}?"
    root = column.partition(".")[0]
    if told := _in_list(head.source, column, config):
        shown += told
    elif root != column and root in names:
        shown += f"; {root!r} holds no object in which {column!r} could be (JSON within text is not read)"
    if head.source.format != "csv" or not with_remedy:
        return shown
    with open_source(head.source) as stream:
        return shown + remedy(csv_head(stream.read(HEAD_BYTES), head.source, config), config)


def json_columns(
    head: bytes, stream: ByteStream, source: SourceFile, config: EventsConfig
) -> Sequence[str] | None:
    """The keys in the first MiB; where no object ends in it, as a response with all events, in what follows."""
    try:
        return head_columns(head, source, config, is_whole=len(head) < HEAD_BYTES)
    except DataError:
        if len(head) < HEAD_BYTES:
            raise
    return head_columns(head + stream.read(MAX_LINE_BYTES), source, config, is_whole=False)


def _in_list(source: SourceFile, column: str, config: EventsConfig) -> str:
    """What to set where items of a list have what is missing; empty where none have."""
    if source.format != "jsonl" or list_keys(config):
        return ""
    with open_source(source) as stream:
        lists = keys_in_lists(stream.read(MAX_LINE_BYTES), source, config)
    for key, inner in lists.items():
        name = column if column in inner else f"{key}.{column}"
        if name in inner:
            return (
                f"; the items of the list {key!r} have it: if each is an event, set events.explode: {key}, and name "
                f"it {name!r}"
            )
    return ""


def _is_similar(name: str, column: str) -> bool:
    plain = [text.strip().strip("\"'").casefold() for text in (name, column)]
    return plain[0] == plain[1] or plain[0].rpartition(".")[2] == plain[1]


def _head(source: SourceFile, config: EventsConfig) -> Head:
    if source.format == "parquet":
        return Head(source, parquet_columns(source, config))
    with open_source(source) as stream:
        head = stream.read(HEAD_BYTES)
        refuse_foreign(head, source)
        if source.format == "jsonl":
            return Head(source, json_columns(head, stream, source, config))
    if not head.strip(NOTHING):
        return Head(source, None)
    csv = csv_head(head, source, config)
    return Head(source, csv.names, head_problem(csv, config))
