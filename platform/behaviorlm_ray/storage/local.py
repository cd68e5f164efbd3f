"""The storage of local folders: files that survive crashes and other writers, written and read where they lie.

Its functions are those of `operations.Storage`, said there; none of them waits for a storage to come back.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage.full_disk import storage_errors
from behaviorlm_ray.storage.locations import FileDigest

LOCK = ".lock"
HASHING_THREADS = min(8, os.cpu_count() or 1)


def read_bytes(place: Path) -> bytes | None:
    """The whole content of a file."""
    with storage_errors(place, "read"):
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None


def write_exclusive(place: Path, content: bytes) -> bool:
    """A link can only be made to a name that is free."""
    with storage_errors(place, "write"), _temporary_file(place, content) as temporary:
        try:
            os.link(temporary, place)
        except FileExistsError:
            return False
        fsync_folder(place.parent)
        return True


def write_replacing(place: Path, content: bytes) -> None:
    """Renaming puts a whole file into the place of another."""
    with storage_errors(place, "write"), _temporary_file(place, content) as temporary:
        os.replace(temporary, place)
        fsync_folder(place.parent)


def replace_if(place: Path, content: bytes, expected: bytes) -> bool:
    """Among processes that keep to the lock beside the file, which all of ours do."""
    with storage_errors(place, "write"), exclusive_lock(place), _temporary_file(place, content) as temporary:
        if read_bytes(place) != expected:
            return False
        os.replace(temporary, place)
        fsync_folder(place.parent)
        return True


def remove_if(place: Path, expected: bytes) -> bool:
    """As `replace_if`."""
    with storage_errors(place, "remove"), exclusive_lock(place):
        if read_bytes(place) != expected:
            return False
        place.unlink()
        return True


def hash_file(place: Path) -> FileDigest:
    """Reads it."""
    with storage_errors(place, "read"), open(place, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(bytes=stream.tell(), sha256=digest.hexdigest())


def hash_files(folder: Path, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
    """In threads: hashing releases the GIL."""
    paths = list(relative_paths)
    with ThreadPoolExecutor(max_workers=HASHING_THREADS) as threads:
        return dict(zip(paths, threads.map(lambda path: hash_file(folder / path), paths), strict=True))


def describe_folder(folder: Path) -> dict[str, FileDigest]:
    """Flushes each file and the folders that name them."""
    paths = list_files(folder)
    flush_to_disk(folder, paths)
    return hash_files(folder, paths)


def sizes(folder: Path, relative_paths: Iterable[str]) -> dict[str, int]:
    """Looks at each."""
    paths = {relative: folder / relative for relative in relative_paths}
    return {relative: path.stat().st_size for relative, path in paths.items() if path.is_file()}


def list_files(folder: Path) -> list[str]:
    """Refuses anything that is neither a file nor a folder: a link's content may change unseen."""
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


def list_folders(folder: Path) -> list[str]:
    """None where there is no such folder."""
    with storage_errors(folder, "list"), suppress(FileNotFoundError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return []


def make_folder(folder: Path) -> None:
    """With those above it."""
    with storage_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path, kept: Collection[str] = ()) -> None:
    """What can be removed is; what cannot stays, and nothing is said."""
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
        return
    with storage_errors(folder, "list"):
        found = [Path(entry.path) for entry in os.scandir(folder) if entry.name not in kept]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def remove_emptied(folder: Path, leased: str) -> None:
    """Files of locks go, and folders one by one: what somebody just writes keeps its folder."""
    with suppress(OSError), exclusive_lock(folder / leased):
        for parent, _, names in os.walk(folder, topdown=False):
            if not all(name.startswith(".") and name.endswith(LOCK) for name in names):
                return
            for name in names:
                Path(parent, name).unlink()
            os.rmdir(parent)


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """The folder itself."""
    make_folder(folder)
    yield folder


@contextmanager
def writing_file(place: Path) -> Iterator[Path]:
    """A hidden file beside it, renamed at the end."""
    make_folder(place.parent)
    unfinished = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        yield unfinished
        with storage_errors(place, "write"):
            unfinished.rename(place)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()


def local_copy(place: Path) -> Path:
    """It lies here."""
    return place


def with_patience(place: Path, seconds: float) -> Path:
    """The same: nothing here is waited for."""
    return place


def with_digests(place: Path, digests: Mapping[str, FileDigest]) -> Path:
    """The same: files are read where they lie."""
    return place


def check_root(root: Path, *, is_written: bool) -> None:
    """Looks at the nearest folder that is there."""
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if is_written and not (there.is_dir() and os.access(there, os.W_OK)):
        raise StorageError(f"cannot write {root}: {there} is no folder that this user may write into")


def flush_to_disk(folder: Path, relative_paths: Iterable[str]) -> None:
    """Make files, and the folders that name them, survive a power failure. Raises StorageError."""
    with storage_errors(folder, "write"):
        folders = {folder}
        for relative in relative_paths:
            path = folder / relative
            folders.update(parent for parent in path.parents if parent.is_relative_to(folder))
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
        for parent in folders:
            fsync_folder(parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    lock = path.with_name(f".{path.name}{LOCK}")
    stream = None
    while stream is None:
        stream = _locked(lock)
    with stream:
        yield


def _locked(lock: Path) -> BinaryIO | None:
    """The file, made where needed and locked; None if somebody removed it with its folder meanwhile."""
    folder = lock.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        return None
    except FileExistsError as error:
        if _is_in_the_way(Path(error.filename)):
            raise
        return None
    with suppress(FileNotFoundError), ExitStack() as opened:
        stream = opened.enter_context(open(lock, "ab"))
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
            opened.pop_all()
            return stream
    return None


def _is_in_the_way(path: Path) -> bool:
    """Whether something else than a folder is there, such as a link that leads nowhere."""
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def copies_folder() -> Path:
    """Where this user's copies lie on this machine. Raises StorageError if somebody else owns it."""
    folder = Path(tempfile.gettempdir()) / f"behaviorlm-copies-{os.getuid()}"
    with storage_errors(folder, "create"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o022:
        raise StorageError(f"{folder} can be written by others than this user; remove it, or set TMPDIR")
    return folder
