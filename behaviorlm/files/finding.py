"""Local files that paths, folders and globs name: links are followed, and a file with two names is found once."""

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from behaviorlm.files.input_files import is_on_s3

_HIDDEN = (".", "_")


@dataclass
class FoundFiles:
    """What some paths name.

    sizes: bytes by path. named: those that a path or glob names itself, not a folder around them. hidden: files and
    folders in folders whose name begins with a dot or an underscore. broken: links that lead nowhere, and what is no
    file. repeated: (path, the same file or folder by another name, by which it is read). in_other_case: files that only
    the case of a letter keeps from being what a glob names.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    hidden: int = 0
    broken: list[str] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    in_other_case: list[str] = field(default_factory=list)


def find_locally(pattern: str, found: FoundFiles) -> bool:
    """Add what a file, folder or glob names; returns whether there was anything of that name. Raises OSError."""
    pattern = os.path.expanduser(pattern)
    # A folder with a bracket in its name is a folder, not a pattern.
    is_there = os.path.lexists(pattern)
    candidates = [pattern] if is_there else sorted(glob.glob(pattern, recursive=True))
    for candidate in candidates:
        if os.path.isdir(candidate):
            _find_below(candidate, found)
        elif not os.path.isfile(candidate):
            found.broken.append(candidate)
        elif not is_there and _is_marker(candidate):
            found.hidden += 1
        else:
            found.sizes[candidate] = os.path.getsize(candidate)
            found.named.add(candidate)
    if not is_there:
        found.in_other_case += _in_other_case(pattern, candidates)
    return bool(candidates)


def drop_second_names(found: FoundFiles) -> None:
    """Keep one name of each local file (the same device and inode): one that is no link, else the first in order."""
    known: dict[tuple[int, int], str] = {}
    local = [path for path in found.sizes if not is_on_s3(path)]
    for path in sorted(local, key=lambda path: (_goes_through_link(path), natural_key(path))):
        first = known.setdefault(_identity(path), path)
        if first != path:
            found.repeated.append((path, first))
            del found.sizes[path]


def natural_key(path: str) -> tuple[list[tuple[str, int]], str]:
    """Orders paths as a person does: numbers in them by their value, so that part-10 comes after part-2."""
    parts = re.split(r"(\d+)", path)  # odd ones are numbers
    return [("", int(part)) if index % 2 else (part, 0) for index, part in enumerate(parts)], path


def in_natural_order(paths: Iterable[str]) -> list[str]:
    """The paths by `natural_key`."""
    return sorted(paths, key=natural_key)


def _find_below(folder: str, found: FoundFiles) -> None:
    """Files of a folder and of all folders in it, each folder once; those that links lead to come last."""
    visited: dict[tuple[int, int], str] = {}
    waiting = [folder]
    while waiting:
        for directory, folders, files in os.walk(waiting.pop(0), onerror=_raise):
            first = visited.setdefault(_identity(directory), directory)
            if first != directory:
                found.repeated.append((directory, first))
                folders.clear()
                continue
            shown = sorted(name for name in folders if not name.startswith(_HIDDEN))
            found.hidden += len(folders) - len(shown)
            paths = [os.path.join(directory, name) for name in shown]
            waiting += [path for path in paths if os.path.islink(path)]
            folders[:] = [name for name, path in zip(shown, paths, strict=True) if not os.path.islink(path)]
            _add_files(directory, files, found)


def _add_files(directory: str, names: list[str], found: FoundFiles) -> None:
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith(_HIDDEN):
            found.hidden += 1
        elif not os.path.isfile(path):
            found.broken.append(path)
        else:
            found.sizes[path] = os.path.getsize(path)


def _in_other_case(pattern: str, candidates: list[str]) -> list[str]:
    """Files that the last part of a glob would match if it took no heed of case."""
    folder, name = os.path.split(pattern)
    if not glob.has_magic(name) or "[" in name:
        return []
    either = re.sub("[A-Za-z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", name)
    paths = set(glob.glob(os.path.join(folder, either), recursive=True)) - set(candidates)
    return sorted(path for path in paths if os.path.isfile(path))


def _is_marker(path: str) -> bool:
    """Whether a file that a glob matched is one that writers leave beside the log, such as _SUCCESS."""
    name = os.path.basename(path)
    return name.startswith(_HIDDEN) and "." not in name[1:]


def _goes_through_link(path: str) -> bool:
    return os.path.realpath(path) != os.path.abspath(path)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error
