"""The operations of storage: what each promises, and which storage does it, by the place that comes first."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import singledispatch, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage import local
from behaviorlm_ray.storage.locations import FileDigest, Location, S3Location

P = TypeVar("P")
A = ParamSpec("A")
R = TypeVar("R")


class Storage(Protocol[P]):
    """What a kind of place can do. The modules `local` and `s3` are two; one more is told to `store_of`."""

    def read_bytes(self, place: P) -> bytes | None:
        """The whole content of a file, or None if there is none. Raises StorageError if it cannot be read."""

    def write_exclusive(self, place: P, content: bytes) -> bool:
        """Create a file with its full content, atomically and durably. False if it exists already.

        Raises StorageError if the disk is full or the place cannot be written.
        """

    def write_replacing(self, place: P, content: bytes) -> None:
        """Create or replace a file, atomically and durably, whoever wrote it before. Raises StorageError."""

    def replace_if(self, place: P, content: bytes, expected: bytes) -> bool:
        """Replace a file only if it still holds `expected`. False if it holds something else or is gone.

        Raises StorageError if the disk is full or the place cannot be written.
        """

    def remove_if(self, place: P, expected: bytes) -> bool:
        """Remove a file only if it still holds `expected`. False if it holds something else or is gone."""

    def hash_file(self, place: P) -> FileDigest:
        """Size and SHA-256 of a file. Raises StorageError if it is missing or cannot be read."""

    def hash_files(self, folder: P, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
        """`hash_file` of several files of a folder, by relative path."""

    def describe_folder(self, folder: P) -> dict[str, FileDigest]:
        """Make all files below a folder durable and return their digests. Raises StorageError, also for links."""

    def list_files(self, folder: P) -> list[str]:
        """Relative paths, with forward slashes and sorted, of all files below a folder; none if it is not there.

        Raises StorageError for what may not lie there.
        """

    def list_folders(self, folder: P) -> list[str]:
        """Names of the folders right below a folder, sorted; none if it is not there."""

    def make_folder(self, folder: P) -> None:
        """Create a folder where there is such a thing."""

    def remove_folder(self, folder: P, kept: Collection[str] = ()) -> None:
        """Remove everything below a folder but the files called `kept` right below it; without any, itself too."""

    def remove_emptied(self, folder: P, leased: str) -> None:
        """Remove a folder with what storage itself keeps in it, if nothing else is left.

        leased: the file right below it by which somebody may just begin to use it again.
        """

    def writing(self, folder: P) -> AbstractContextManager[Path]:
        """A local folder to write files into, which lie in `folder` after the block: itself where that is local.

        Else a temporary one, of which nothing is sent if the block raises. Raises StorageError.
        """

    def writing_file(self, place: P) -> AbstractContextManager[Path]:
        """A path to write one file to; after the block it is in place, whole. If the block raises, nothing changes."""

    def local_copy(self, place: P) -> Path:
        """A local path with the content of a file or folder, not to be written to: local ones themselves, else a copy.

        Raises StorageError naming what is missing, has changed, or does not fit on the disk.
        """

    def with_patience(self, place: P, seconds: float) -> P:
        """The same place, whose operations give up after so many seconds. Local ones never wait."""

    def with_digests(self, place: P, digests: Mapping[str, FileDigest]) -> P:
        """The same place, whose readers hold what they download against these digests. Local ones download nothing."""

    def check_root(self, root: P, *, is_written: bool) -> None:
        """Whether stages can be kept below a root. Raises StorageError that says what is wrong and what to do.

        is_written: also try writing (and leave nothing behind); without, nothing is written anywhere.
        """

    def sizes(self, folder: P, relative_paths: Iterable[str]) -> dict[str, int]:
        """Size in bytes of those of the files that are there."""


_LOCAL: Storage[Path] = local


@singledispatch
def store_of(place: Any) -> Storage[Any]:
    """The storage that a place lies in."""
    raise TypeError(f"{place!r} is no place of a storage")


@store_of.register
def _on_this_machine(place: Path) -> Storage[Any]:
    return _LOCAL


@store_of.register
def _on_s3(place: S3Location) -> Storage[Any]:
    from behaviorlm_ray.storage import s3  # boto3 takes longer to load than a config to be refused

    store: Storage[S3Location] = s3
    return store


def _by_place(operation: Callable[Concatenate[Storage[Location], A], R]) -> Callable[A, R]:
    """The operation of the storage of its first argument."""

    @wraps(operation)
    def called(*arguments: A.args, **options: A.kwargs) -> R:
        result: R = getattr(store_of(arguments[0]), operation.__name__)(*arguments, **options)
        return result

    return called


read_bytes = _by_place(Storage[Location].read_bytes)
write_exclusive = _by_place(Storage[Location].write_exclusive)
write_replacing = _by_place(Storage[Location].write_replacing)
replace_if = _by_place(Storage[Location].replace_if)
remove_if = _by_place(Storage[Location].remove_if)
hash_file = _by_place(Storage[Location].hash_file)
hash_files = _by_place(Storage[Location].hash_files)
describe_folder = _by_place(Storage[Location].describe_folder)
list_files = _by_place(Storage[Location].list_files)
list_folders = _by_place(Storage[Location].list_folders)
make_folder = _by_place(Storage[Location].make_folder)
remove_folder = _by_place(Storage[Location].remove_folder)
remove_emptied = _by_place(Storage[Location].remove_emptied)
writing = _by_place(Storage[Location].writing)
writing_file = _by_place(Storage[Location].writing_file)
local_copy = _by_place(Storage[Location].local_copy)
with_patience = _by_place(Storage[Location].with_patience)
with_digests = _by_place(Storage[Location].with_digests)
check_root = _by_place(Storage[Location].check_root)
sizes = _by_place(Storage[Location].sizes)


def read_text(place: Location) -> str:
    """The content of a UTF-8 file. Raises StorageError if it is missing, changed or cannot be read."""
    content = read_bytes(place)
    if content is None:
        raise StorageError(f"{place} is missing; run the same command again to repair it")
    return content.decode("utf-8")


def damaged_files(folder: Location, files: Mapping[str, FileDigest]) -> list[str]:
    """What is wrong with files that were described earlier: a line for each missing, cut, grown or changed one."""
    problems: dict[str, str] = {}
    found = sizes(folder, files)
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
