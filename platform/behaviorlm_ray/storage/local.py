"""Local files that survive crashes and other writers: exclusive creation, replacement of known bytes, hashes.

Each operation has its counterpart in `s3`. What a full disk looks like and what to say of it is here, too.
"""

import errno
import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage.locations import FileDigest

# Disk full, quota used up, file size limit: the user frees space and runs the same command again.
FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries in other languages (safetensors, Arrow) and Ray's remote errors tell of a full disk by text only.
FULL_DISK_TEXT = re.compile(
    r"no space left on device|disk quota exceeded|os error (?:28|122|27)\b", re.IGNORECASE
)


def read_bytes(path: str | Path) -> bytes | None:
    """The whole content of a file, or None if there is none. Raises StorageError if it cannot be read."""
    with storage_errors(path, "read"):
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None


def write_exclusive(path: str | Path, content: bytes) -> bool:
    """Create a file with its full content, atomically and durably. False if the path exists already.

    Raises StorageError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path, "write"), _temporary_file(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        fsync_folder(path.parent)
        return True


def write_replacing(path: str | Path, content: bytes) -> None:
    """Create or replace a file, atomically and durably, whoever wrote it before. Raises StorageError."""
    path = Path(path)
    with storage_errors(path, "write"), _temporary_file(path, content) as temporary:
        os.replace(temporary, path)
        fsync_folder(path.parent)


def replace_if(path: str | Path, content: bytes, expected: bytes) -> bool:
    """Replace a file only if it still holds `expected`. False if it holds something else or is gone.

    Raises StorageError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path, "write"), exclusive_lock(path), _temporary_file(path, content) as temporary:
        if read_bytes(path) != expected:
            return False
        os.replace(temporary, path)
        fsync_folder(path.parent)
        return True


def remove_if(path: str | Path, expected: bytes) -> bool:
    """Remove a file only if it still holds `expected`. False if it holds something else or is gone."""
    path = Path(path)
    with storage_errors(path, "remove"), exclusive_lock(path):
        if read_bytes(path) != expected:
            return False
        path.unlink()
        return True


def hash_file(path: str | Path) -> FileDigest:
    """Size and SHA-256 of a file. Raises StorageError if it is missing or cannot be read."""
    with storage_errors(path, "read"), open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(bytes=stream.tell(), sha256=digest.hexdigest())


def hash_files(folder: str | Path, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
    """Digests of several files of a folder by relative path, hashed in threads (hashing releases the GIL)."""
    paths = list(relative_paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        digests = threads.map(lambda relative: hash_file(Path(folder) / relative), paths)
        return dict(zip(paths, digests, strict=True))


def list_files(folder: str | Path) -> list[str]:
    """Relative paths, with forward slashes and sorted, of all files below a folder.

    Raises StorageError on anything that is neither a file nor a folder: a link's content may change unseen.
    """
    found = []
    with storage_errors(folder, "list"):
        for parent, folders, names in os.walk(folder):
            for name in [*folders, *names]:
                path = Path(parent) / name
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    raise StorageError(
                        f"{path} is a link or a special file; a stage may hold plain files only"
                    )
            found += [(Path(parent) / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def flush_to_disk(folder: str | Path, relative_paths: Iterable[str]) -> None:
    """Make files, and the folders that name them, survive a power failure. Raises StorageError."""
    folder = Path(folder)
    with storage_errors(folder, "write"):
        folders = {folder}
        for relative in relative_paths:
            path = folder / relative
            folders.update(parent for parent in path.parents if parent.is_relative_to(folder))
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
        for parent in folders:
            fsync_folder(parent)


def fsync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk, a used-up quota or a file size limit."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in FULL_DISK_ERRORS:
            return True
        if FULL_DISK_TEXT.search(str(current)):
            return True
        current = current.__cause__ or current.__context__
    return False


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


@contextmanager
def _temporary_file(path: Path, content: bytes) -> Iterator[Path]:
    """A durable file beside `path`, so that renaming or linking it is atomic; removed if still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Among the processes that replace or remove `path`, one at a time. The lock ends with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
