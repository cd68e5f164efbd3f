"""What attempts at a stage leave behind, and what of it is removed: it would fill the disk, one retry after another.

Only attempts that were there when a new one began under the stage's lease are touched: whoever wrote them has ended, or
has lost the lease and cannot commit any more. None of them vanishes, so that attempts can be counted: each keeps its
error.json, or is given a small file, for on S3 a folder without objects does not exist.
"""

import json
import traceback
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

SCRATCH = "scratch"
"""Folder of an attempt for what its body alone needs and removes before it returns; no other attempt reads it."""

ERROR_FILE = "error.json"
REMOVED_FILE = "removed.txt"


def keep_error(attempt: Location, error: BaseException, now: float) -> None:
    """Beside what the attempt wrote. A full disk may have no room for it, which must not hide the error.

    now: seconds since the epoch.
    """
    record = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": traceback.format_exception(error),
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }
    with suppress(StorageError):
        storage.write_replacing(attempt / ERROR_FILE, json.dumps(record, indent=1).encode())


def remove_scratch(attempts: Iterable[Location]) -> None:
    """Remove the scratch files of attempts that were cut short. A storage that fails here fails nothing."""
    for attempt in attempts:
        with suppress(StorageError):
            if SCRATCH in storage.list_folders(attempt):
                _mark(attempt)
                storage.remove_folder(attempt / SCRATCH)


def remove_written(attempts: Iterable[Location]) -> None:
    """Remove what attempts wrote that came to nothing, but not their errors. A storage that fails fails nothing."""
    for attempt in attempts:
        with suppress(StorageError):
            _mark(attempt)
            storage.remove_folder(attempt, (ERROR_FILE, REMOVED_FILE))


def remove_unneeded(folder: Location) -> None:
    """Remove a folder of a stage whose output is safe, or may fail. A storage that fails here fails nothing."""
    with suppress(StorageError):
        storage.remove_folder(folder)


def _mark(attempt: Location) -> None:
    if any(storage.read_bytes(attempt / name) is not None for name in (ERROR_FILE, REMOVED_FILE)):
        return
    with suppress(StorageError):  # A full disk has no room for it, but keeps the empty folder.
        storage.write_replacing(
            attempt / REMOVED_FILE, b"Files of this attempt that nothing needs any more were removed.\n"
        )
