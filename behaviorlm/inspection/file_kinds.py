"""Which of the files in a folder are the log: of one format, and with columns in common."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from behaviorlm.errors import DataError
from behaviorlm.events.source_files import SourceFile, listed, text_of_link
from behaviorlm.inspection.name_words import (
    BEHAVIOR,
    PERHAPS_BEHAVIOR,
    PERHAPS_USER,
    STEP,
    TIME,
    USER,
    speaks_for,
)

MOST_NAMED = 20
SHARED = 0.5
"""Share of columns that files of one log have in common at least (our choice)."""


def of_one_kind(files: Sequence[SourceFile]) -> tuple[list[SourceFile], list[str]]:
    """(the files of the format that most bytes are in, sentences on those left out). Raises DataError for none."""
    notes = [f"{file.path} is empty" for file in files if not file.size]
    links = [file.path for file in files if text_of_link(file.path) is not None]
    notes += [
        f"{path}: left out: it holds only the path of another file, a link that was copied" for path in links
    ]
    files = [file for file in files if file.size and file.path not in links]
    unsure = [file.path for file in files if not file.is_surely]
    if unsure and len(unsure) < len(files):
        notes.append(f"left out, for other files are logs by their names: {listed(unsure)}")
        files = [file for file in files if file.is_surely]
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[file.format] += file.size
    if not sizes:
        raise DataError("\n".join(["all files are empty", *notes]))
    most = sizes.most_common(1)[0][0]
    others = [file.path for file in files if file.format != most]
    if others:
        notes.append(f"left out, for most of the log is in {most}: {listed(others)}")
    return [file for file in files if file.format == most], notes


def of_other_columns(by_file: Mapping[str, Sequence[str]]) -> list[str]:
    """Files that share hardly any column with those that look most like a log by the names of their columns."""
    kinds: list[tuple[set[str], list[str]]] = []
    for path, names in by_file.items():
        for seen, paths in kinds:
            if len(seen & set(names)) >= SHARED * min(len(seen), len(names)):
                seen |= set(names)
                paths.append(path)
                break
        else:
            kinds.append((set(names), [path]))
    log = max(kinds, key=lambda kind: (_like_a_log(kind[0]), len(kind[1])))
    return [path for kind in kinds if kind is not log for path in kind[1]]


def _like_a_log(names: set[str]) -> float:
    roles = ((USER, PERHAPS_USER), (BEHAVIOR, PERHAPS_BEHAVIOR), (TIME, STEP))
    return sum(max((speaks_for(name, *words) for name in names), default=0.0) for words in roles)


def paths_of(files: Sequence[SourceFile], paths: Sequence[str]) -> list[str]:
    """The files one by one where they are few, else what their names have in common in the folders asked for."""
    if len(files) <= MOST_NAMED:
        return [file.path for file in files]
    suffixes = dict.fromkeys("".join(PurePosixPath(file.path).suffixes[-2:]) for file in files)
    return [f"{path.rstrip('/')}/**/*{suffix}" for path in paths for suffix in suffixes]
