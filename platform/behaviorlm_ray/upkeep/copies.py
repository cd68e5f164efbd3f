"""The copies of S3 objects on this machine: how large they are, and their removal. Jobs of all roots share them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from behaviorlm_ray import storage

UNFINISHED_SECONDS = 86400.0
"""Age from which a hidden file counts as left behind by a process that died, and not as being written."""


def copies_size(older_than: float, now: float) -> tuple[int, int]:
    """How many files and bytes those copies hold that are older than so many seconds. Raises StorageError."""
    files: dict[int, int] = {}  # by inode: a folder of copies is made of links to them
    for entry in _copies(older_than, now):
        for path in entry.rglob("*") if entry.is_dir() else [entry]:
            with suppress(FileNotFoundError):
                found = path.lstat()
                if not path.is_dir():
                    files[found.st_ino] = found.st_size
    return len(files), sum(files.values())


def remove_copies(older_than: float, now: float) -> str:
    """Remove these. Returns "", or the first that is still there."""
    for entry in _copies(older_than, now):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()
    left = next(_copies(older_than, now), None)
    return f"cannot remove {left}" if left else ""


def _copies(older_than: float, now: float) -> Iterator[Path]:
    for entry in os.scandir(storage.copies_folder()):
        age = older_than if not entry.name.startswith(".") else max(older_than, UNFINISHED_SECONDS)
        with suppress(FileNotFoundError):
            if not age or now - entry.stat(follow_symlinks=False).st_mtime >= age:
                yield Path(entry.path)
