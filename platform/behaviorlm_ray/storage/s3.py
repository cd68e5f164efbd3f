"""The storage on S3: folders are written aside and sent off, read through verified copies, and the way is tried.

Its functions are those of `operations.Storage`, said there. Each is tried again for the patience of its place.
"""

import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage import copies, local, s3_objects
from behaviorlm_ray.storage.locations import FileDigest, S3Location
from behaviorlm_ray.storage.s3_objects import REMOVAL, all_sizes, digest_of, ignored_conditions, in_threads
from behaviorlm_ray.storage.s3_transfers import of_each, upload

TEMPORARY_PREFIX = "behaviorlm-"
PREFLIGHT_SECONDS = 15.0
"""How long a storage that does not answer is tried before a job starts: a typing error shows soon."""

read_bytes = s3_objects.read_bytes
write_exclusive = s3_objects.write_exclusive
write_replacing = s3_objects.write_replacing
replace_if = s3_objects.replace_if
remove_if = s3_objects.remove_if
list_folders = s3_objects.list_folders
remove_folder = s3_objects.remove_folder
local_copy = copies.local_copy


def hash_file(place: S3Location) -> FileDigest:
    """The checksum that S3 keeps, where there is one of the whole content; else the object is read."""
    digest = digest_of(place)
    if digest is None:
        raise StorageError(f"cannot read {place}: there is no such object")
    return digest


def hash_files(folder: S3Location, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
    """In threads, for requests wait for the network."""
    paths = list(relative_paths)
    return dict(zip(paths, in_threads(lambda path: hash_file(folder / path), paths), strict=True))


def describe_folder(folder: S3Location) -> dict[str, FileDigest]:
    """What is stored is durable."""
    return hash_files(folder, list_files(folder))


def sizes(folder: S3Location, relative_paths: Iterable[str]) -> dict[str, int]:
    """From one listing; what that lacks is looked at, for some servers list late what others wrote."""
    listed, found = all_sizes(folder), {}
    for path in relative_paths:
        digest = None if path in listed else digest_of(folder / path)
        if path in listed or digest is not None:
            found[path] = listed[path] if digest is None else digest.bytes
    return found


def list_files(folder: S3Location) -> list[str]:
    """Keys with '..' in them are refused. What is known is not asked for: some servers list late what others wrote."""
    return list(all_sizes(folder)) if folder.digests is None else sorted(folder.digests.keys() - {""})


def remove_emptied(folder: S3Location, leased: str) -> None:
    """A folder without objects does not exist."""


def make_folder(folder: S3Location) -> None:
    """There is nothing to create."""


@contextmanager
def writing(folder: S3Location) -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as name:
        yield Path(name)
        found = local.sizes(Path(name), local.list_files(Path(name)))
        of_each(lambda path: upload(Path(name) / path, folder / path), found)


@contextmanager
def writing_file(place: S3Location) -> Iterator[Path]:
    """A file in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as name:
        yield Path(name) / place.name
        upload(Path(name) / place.name, place)


def with_patience(place: S3Location, seconds: float) -> S3Location:
    """It travels with the place."""
    return replace(place, patience_seconds=seconds)


def with_digests(place: S3Location, digests: Mapping[str, FileDigest]) -> S3Location:
    """They travel with the place."""
    return replace(place, digests=dict(digests))


def check_root(root: S3Location, *, is_written: bool) -> None:
    """Lists it; writes, replaces and removes an object if it is to be written."""
    hurried = with_patience(root, min(root.patience_seconds, PREFLIGHT_SECONDS))
    list_folders(hurried)
    ignored = ignored_conditions(hurried / f".preflight-{uuid.uuid4().hex}") if is_written else []
    if ignored == [REMOVAL]:
        sys.stdout.write(
            f"storage: {root} ignores {REMOVAL}; what that may cost is in docs/storage.md, under What S3 needs\n"
        )
    elif ignored:
        raise StorageError(
            f"{root}: this storage ignores {' and '.join(ignored)}, so two jobs could overwrite each other's results. "
            "Use AWS S3 or an S3 server that honors conditional writes"
        )
