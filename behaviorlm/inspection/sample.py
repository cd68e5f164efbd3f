"""The first rows of the files of a log with all their columns as text, read as a run would read them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from behaviorlm.config import validate_settings
from behaviorlm.errors import DataError
from behaviorlm.files.unpacking import packing_of, without_packing
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.csv_looks import csv_choices
from behaviorlm.inspection.file_kinds import of_one_kind, of_other_columns, paths_of
from behaviorlm.inspection.json_looks import are_events, first_objects, json_choices, list_keys_of
from behaviorlm.inspection.text_encodings import decoded
from behaviorlm.log_files.columns import check_columns, json_columns
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_files import HEAD_BYTES, csv_head
from behaviorlm.log_files.explode import sound_events
from behaviorlm.log_files.file_config import FileConfig
from behaviorlm.log_files.foreign_files import refuse_foreign
from behaviorlm.log_files.json_lines import MAX_LINE_BYTES
from behaviorlm.log_files.parquet_files import open_parquet, parquet_columns
from behaviorlm.log_files.parquet_text import is_readable
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import SourceFile, find_files, folder_values, listed, open_source
from behaviorlm.log_files.text import one_chunk

MOST_FILES = 50
"""Files that rows are taken from, spread evenly over the log (our choice)."""
LOOK_BYTES = 256 << 10
NO_COLUMN = "no column"


@dataclass(frozen=True)
class Sample:
    """The first rows of some files.

    files: of the log, all of them. looked_at: those that rows come from. paths: what names the files of the log.
    choices: what the files need to be read.
    columns: texts by name, nulls where empty, all of one length. broken: rows that could not be read. is_all: whether
    the log ends with these rows. rows_estimated: about how many rows the log has; None for packed files.
    """

    files: tuple[SourceFile, ...]
    looked_at: tuple[SourceFile, ...]
    paths: tuple[str, ...]
    notes: tuple[str, ...]
    choices: tuple[Choice, ...]
    columns: Mapping[str, pa.Array]
    rows: int
    broken: int
    is_all: bool
    rows_estimated: int | None

    @property
    def size(self) -> int:
        """Bytes of all files, as stored."""
        return sum(file.size for file in self.files)


def read_sample(paths: Sequence[str], most: int, told: FileConfig | None = None) -> Sample:
    """Find the files, find out how to read them, and read at most `most` rows.

    told: how they are read, where that is known. Raises ConfigError and DataError.
    """
    known = {} if told is None else {key: getattr(told, key) for key in FileConfig.model_fields}
    found = find_files(mapping_of({"paths": list(paths), **known}))
    files, left_out = of_one_kind(found.files)
    chosen = spread(files, MOST_FILES)
    choices = _choices(chosen[0]) if told is None else []
    by_file = _columns_by_file(chosen, {**known, **{choice.key: choice.value for choice in choices}})
    if told is None and (others := of_other_columns(by_file)):
        left_out.append(f"left out, for they have other columns than the log: {listed(others)}")
        files = [file for file in files if file.path not in others]
        chosen = [file for file in chosen if file.path not in others]
        choices = _choices(chosen[0])
        by_file = _columns_by_file(chosen, {choice.key: choice.value for choice in choices})
    proposed = paths_of(files, paths) if left_out else list(paths)
    keys = {"paths": proposed, **known, **{choice.key: choice.value for choice in choices}}
    counted = Counter(name for names in by_file.values() for name in names)
    names = sorted(counted, key=lambda name: -counted[name])  # stable: in order of appearance
    if not names:
        raise DataError(f"{chosen[0].path}: its first object or row names no column")
    config = _reading_all(keys, names)
    checked = check_columns(config, [file for file in chosen if by_file[file.path]])
    texts, broken, is_all = [], 0, len(chosen) == len(files)
    for table, lost, is_whole in _first_rows(checked.files, config, most):
        texts.append(table)
        broken += lost
        is_all &= is_whole
    text = pa.concat_tables(texts).combine_chunks()
    if not text.num_rows:
        raise DataError(f"{chosen[0].path}: no row can be read; what was proposed for the file: {keys}")
    role_of = ["user", "behavior", *(f"after.{name}" for name in names[2:])]
    columns = {name: one_chunk(text[role]) for name, role in zip(names, role_of, strict=False)}
    return Sample(
        tuple(files),
        tuple(checked.files),
        tuple(proposed),
        (*found.notes, *left_out, *_differing(by_file, names, len(chosen))),
        tuple(choices),
        columns,
        text.num_rows + broken,
        broken,
        is_all,
        text.num_rows + broken if is_all else _estimated_rows(files, chosen[0]),
    )


def _columns_by_file(files: Sequence[SourceFile], keys: Mapping[str, Any]) -> dict[str, list[str]]:
    config = mapping_of({"paths": ["log"], **keys})
    return {file.path: _names(file, config) for file in files}


def _estimated_rows(files: Sequence[SourceFile], first: SourceFile) -> int | None:
    """By what Parquet files say, else by the size of the first lines; None where files are packed."""
    if first.format == "parquet":
        few = spread(files, MOST_FILES)
        rows = 0
        for file in few:
            with open_parquet(file) as parquet:
                rows += parquet.metadata.num_rows
        return rows * len(files) // len(few)
    if any(packing_of(file.path) for file in files):
        return None
    with open_source(first) as stream:
        raw = stream.read(HEAD_BYTES)
    return int(sum(file.size for file in files) * max(raw.count(b"\n"), raw.count(b"\r"), 1) / len(raw))


def spread(files: Sequence[SourceFile], most: int) -> list[SourceFile]:
    """At most so many of the files, evenly chosen, the first among them."""
    step = max(1, -(-len(files) // most))
    return list(files[::step])


def mapping_of(keys: Mapping[str, Any]) -> EventsConfig:
    """A mapping in which what is not among the keys means nothing yet. Raises ConfigError."""
    unknown = {"dataset": "log", "user": NO_COLUMN, "behavior": NO_COLUMN, "order": {"column": NO_COLUMN}}
    return validate_settings(EventsConfig, {**unknown, **keys}, "the mapping")


def _reading_all(keys: Mapping[str, Any], names: Sequence[str]) -> EventsConfig:
    """A mapping that reads all columns as text."""
    order = {"column": names[0], "kind": "integer"}
    behavior = names[1] if len(names) > 1 else names[0]
    return mapping_of(
        {**keys, "user": names[0], "behavior": behavior, "order": order, "context_after": list(names[2:])}
    )


def _first_rows(
    files: Sequence[SourceFile], config: EventsConfig, most: int
) -> Iterator[tuple[pa.Table, int, bool]]:
    """(text, broken rows, whether the file ends with them) of each file; what short files leave over goes to later
    ones.
    """
    left = most
    for place, file in enumerate(files):
        quota = max(1, left // (len(files) - place))
        rows, broken = 0, 0
        parts = []
        for text, lost in read_table_batches(file, config, min(quota, 1 << 17)):
            parts.append(text.slice(0, quota - rows))
            rows += len(parts[-1])
            broken += len(lost)
            if rows >= quota:
                break
        left -= rows
        if parts:
            yield pa.concat_tables(parts), broken, rows < quota


def _choices(file: SourceFile) -> list[Choice]:
    """What this file needs to be read. Raises DataError for a file that is something else."""
    if file.format == "parquet":
        with open_parquet(file) as parquet:
            lists = [field.name for field in parquet.schema_arrow if pa.types.is_list(field.type)]
            items = {name: parquet.schema_arrow.field(name).type.value_type for name in lists}
        found = [
            name
            for name, item in items.items()
            if pa.types.is_struct(item) and are_events([{field.name: None for field in item}])
        ]
        return [Choice("explode", found[0], "each row holds a list of events under it")] if found else []
    with open_source(file) as stream:
        raw = stream.read(LOOK_BYTES)
        refuse_foreign(raw, file)
        text, encoding = decoded(raw)
        if file.format == "jsonl" and len(raw) == LOOK_BYTES and not first_objects(text, file):
            text, encoding = decoded(raw + stream.read(MAX_LINE_BYTES))  # a response with all events
    choices = [encoding] if encoding is not None else []
    if file.format == "csv":
        is_tabbed = without_packing(file.path).lower().endswith((".tsv", ".tab"))
        return choices + csv_choices(text, len(raw) == LOOK_BYTES, "\t" if is_tabbed else ",")
    return choices + json_choices(text, file)


def _names(file: SourceFile, config: EventsConfig) -> list[str]:
    """The columns of a file that can be read as text, each once."""
    if file.format == "parquet":
        names = parquet_columns(file, config)
        with open_parquet(file) as parquet:
            unreadable = {field.name for field in parquet.schema_arrow if not is_readable(field.type)} - set(
                config.explode or []
            )
    else:
        unreadable = set[str]()
        with open_source(file) as stream:
            raw = stream.read(HEAD_BYTES)
            if file.format == "csv":
                names = csv_head(raw, file, config).names
            else:
                names = list(json_columns(raw, stream, file, config) or [])
        if file.format == "jsonl":
            text, _ = decoded(raw[:LOOK_BYTES])
            for value in first_objects(text, file):
                for row in sound_events(value, config):
                    unreadable |= list_keys_of(row)
    repeated = {name for name, count in Counter(names).items() if count > 1 and file.format == "csv"}
    parents = {name.rpartition(".")[0] for name in names if "." in name}
    kept = [name for name in dict.fromkeys(names) if name not in unreadable | repeated | parents and name]
    return [*kept, *(name for name in folder_values(file.path) if name not in kept)]


def _differing(by_file: Mapping[str, Sequence[str]], names: Sequence[str], count: int) -> list[str]:
    odd = [path for path, own in by_file.items() if set(own) != set(names)]
    if not odd:
        return []
    lacking = ", ".join(repr(name) for name in names if name not in by_file[odd[0]])
    return [
        f"{len(odd)} of the {count} files looked at lack columns that others have: {odd[0]} lacks {lacking}"
    ]
