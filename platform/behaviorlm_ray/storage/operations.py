"""The operations of storage, the same for local folders and S3. Names of places are local paths or S3Locations.

Files of a local root are written and read where they lie. For S3 they are written into a temporary folder and sent
off at the end of the block, and read through verified copies on this machine (`copies`).
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage import local
from behaviorlm_ray.storage.locations import FileDigest, Location, S3Location

if TYPE_CHECKING:
    from behaviorlm_ray.storage import s3
else:
    from behaviorlm_ray.storage import on_s3 as s3

HASHING_THREADS = min(8, os.cpu_count() or 1)
TEMPORARY_PREFIX = "behaviorlm-"


def read_bytes(place: str | Location) -> bytes | None:
    """The whole content of a file, or None if there is none. Raises StorageError if it cannot be read."""
    return s3.read_bytes(place) if isinstance(place, S3Location) else local.read_bytes(place)


def read_text(place: Location) -> str:
    """The content of a UTF-8 file. Raises StorageError if it is missing, changed or cannot be read."""
    content = read_bytes(place)
    if content is None:
        raise StorageError(f"{place} is missing; run the same command again to repair it")
    return content.decode("utf-8")


def write_exclusive(place: str | Location, content: bytes) -> bool:
    """Create a file with its full content, atomically and durably. False if it exists already.

    Raises StorageError if the disk is full or the place cannot be written.
    """
    if isinstance(place, S3Location):
        return s3.write_exclusive(place, content)
    return local.write_exclusive(place, content)


def write_replacing(place: str | Location, content: bytes) -> None:
    """Create or replace a file, atomically and durably, whoever wrote it before. Raises StorageError."""
    if isinstance(place, S3Location):
        s3.write_replacing(place, content)
    else:
        local.write_replacing(place, content)


def replace_if(place: str | Location, content: bytes, expected: bytes) -> bool:
    """Replace a file only if it still holds `expected`. False if it holds something else or is gone.

    Raises StorageError if the disk is full or the place cannot be written.
    """
    if isinstance(place, S3Location):
        return s3.replace_if(place, content, expected)
    return local.replace_if(place, content, expected)


def remove_if(place: str | Location, expected: bytes) -> bool:
    """Remove a file only if it still holds `expected`. False if it holds something else or is gone."""
    if isinstance(place, S3Location):
        return s3.remove_if(place, expected)
    return local.remove_if(place, expected)


def hash_file(place: str | Location) -> FileDigest:
    """Size and SHA-256 of a file. Raises StorageError if it is missing or cannot be read.

    On S3 the checksum that S3 keeps is taken where there is one of the whole content; else the object is read.
    """
    if not isinstance(place, S3Location):
        return local.hash_file(place)
    digest = s3.digest_of(place)
    if digest is None:
        raise StorageError(f"cannot read {place}: there is no such object")
    return digest


def hash_files(folder: str | Location, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
    """`hash_file` of several files of a folder, by relative path."""
    paths = list(relative_paths)
    if isinstance(folder, S3Location):
        return dict(zip(paths, s3.in_threads(lambda path: hash_file(folder / path), paths), strict=True))
    with ThreadPoolExecutor(max_workers=HASHING_THREADS) as threads:  # hashing releases the GIL
        digests = threads.map(lambda path: local.hash_file(Path(folder) / path), paths)
        return dict(zip(paths, digests, strict=True))


def list_files(folder: str | Location) -> list[str]:
    """Relative paths, with forward slashes and sorted, of all files below a folder; none if it is not there.

    Raises StorageError on anything that is neither a file nor a folder: a link's content may change unseen.
    """
    return list(s3.sizes(folder)) if isinstance(folder, S3Location) else local.list_files(folder)


def list_folders(folder: str | Location) -> list[str]:
    """Names of the folders right below a folder, sorted; none if it is not there."""
    if isinstance(folder, S3Location):
        return s3.list_folders(folder)
    with local.storage_errors(folder, "list"), suppress(FileNotFoundError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return []


def present_sizes(folder: str | Location, relative_paths: Iterable[str]) -> dict[str, int]:
    """Size in bytes of those of the files that are there."""
    if isinstance(folder, S3Location):
        found = s3.sizes(folder)
        return {path: found[path] for path in relative_paths if path in found}
    paths = {path: Path(folder) / path for path in relative_paths}
    return {relative: path.stat().st_size for relative, path in paths.items() if path.is_file()}


def damaged_files(folder: Location, files: Mapping[str, FileDigest]) -> list[str]:
    """What is wrong with files that were described earlier: a line for each missing, cut, grown or changed one."""
    problems: dict[str, str] = {}
    found = present_sizes(folder, files)
    for path, record in files.items():
        if path not in found:
            problems[path] = f"{path} is missing"
        elif found[path] != record.bytes:
            problems[path] = f"{path} has {found[path]} bytes instead of {record.bytes}"
    for path, digest in hash_files(folder, [path for path in files if path not in problems]).items():
        if digest.sha256 != files[path].sha256:
            problems[path] = (
                f"{path} has changed (SHA-256 {digest.sha256[:12]}…, was {files[path].sha256[:12]}…)"
            )
    return [problems[path] for path in sorted(problems)]


def make_folder(folder: Location) -> None:
    """Create a local folder and those above it. On S3 there is nothing to create."""
    if isinstance(folder, Path):
        with local.storage_errors(folder, "create"):
            folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Location) -> None:
    """Remove everything below a folder, and the folder. Raises StorageError on S3; locally what can goes."""
    if isinstance(folder, S3Location):
        s3.remove_folder(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_all_but(folder: Location, names: Collection[str]) -> None:
    """Remove everything below a folder but the files of these names right below it. As `remove_folder` otherwise."""
    if isinstance(folder, S3Location):
        s3.remove_folder(folder, names)
        return
    with local.storage_errors(folder, "list"):
        found = [Path(entry.path) for entry in os.scandir(folder) if entry.name not in names]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def describe_folder(folder: Location) -> dict[str, FileDigest]:
    """Make all files below a folder durable and return their digests. Raises StorageError, also for links."""
    paths = list_files(folder)
    if isinstance(folder, Path):
        local.flush_to_disk(folder, paths)
    return hash_files(folder, paths)


@contextmanager
def writing(folder: Location) -> Iterator[Path]:
    """A local folder to write files into, which lie in `folder` after the block: itself where that is local.

    Else a temporary one, of which nothing is sent if the block raises. Raises StorageError.
    """
    if isinstance(folder, Path):
        make_folder(folder)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as name:
        yield Path(name)
        paths = local.list_files(name)
        s3.in_threads(lambda path: s3.upload(Path(name) / path, folder / path), paths)


@contextmanager
def writing_file(place: Location) -> Iterator[Path]:
    """A path to write one file to; after the block it is in place, whole. If the block raises, nothing changes."""
    if isinstance(place, Path):
        make_folder(place.parent)
        unfinished = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
        try:
            yield unfinished
            with local.storage_errors(place, "write"):
                unfinished.rename(place)
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        return
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as name:
        yield Path(name) / place.name
        s3.upload(Path(name) / place.name, place)
