"""What a full disk looks like, whoever met it, and what is said of it and of other errors of the operating system."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from behaviorlm.errors import StorageError

# Disk full, quota used up, file size limit: the user frees space and runs the same command again.
FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries in other languages (safetensors, Arrow) and Ray's remote errors tell of a full disk by text only.
FULL_DISK_TEXT = re.compile(
    r"no space left on device|disk quota exceeded|os error (?:28|122|27)\b", re.IGNORECASE
)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk, a used-up quota or a file size limit."""
    return any(
        (isinstance(one, OSError) and one.errno in FULL_DISK_ERRORS) or FULL_DISK_TEXT.search(str(one))
        for one in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: libraries wrap errors of others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def disk_full_message(path: str | Path) -> str:
    """What to tell the user about a full disk under `path`."""
    return (
        f"the disk that holds {path} is full (or a quota is used up). Free some space and run the same "
        "command again: finished stages are reused, an interrupted tuning continues from its last checkpoint"
    )


@contextmanager
def storage_errors(path: str | Path, action: str) -> Iterator[None]:
    """Turn operating system errors inside the block into StorageError; `action` is a verb: what was tried."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageError(disk_full_message(path)) from error
        raise StorageError(f"cannot {action} {path}: {error.strerror or error}") from error
