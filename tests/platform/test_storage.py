"""Storage: content is whole, only known bytes are replaced, of two writers one wins, a full disk is told."""

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage


def test_exclusive_write_creates_once_and_keeps_the_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    assert storage.write_exclusive(path, b"first")
    assert not storage.write_exclusive(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.list_files(tmp_path) == ["deep/file"]


def test_of_many_concurrent_writers_one_wins_and_readers_see_whole_content(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda content: storage.write_exclusive(tmp_path / "file", content), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(tmp_path / "file") == contents[won.index(True)]


def test_of_many_concurrent_replacements_of_the_same_bytes_one_wins(tmp_path: Path) -> None:
    storage.write_exclusive(tmp_path / "file", b"old")
    contents = [str(number).encode() for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda new: storage.replace_if(tmp_path / "file", new, b"old"), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(tmp_path / "file") == contents[won.index(True)]


def test_replace_and_remove_refuse_other_bytes_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not storage.replace_if(path, b"new", b"old")
    assert not storage.remove_if(path, b"old")
    storage.write_replacing(path, b"theirs")
    assert not storage.replace_if(path, b"new", b"old")
    assert not storage.remove_if(path, b"old")
    assert storage.read_bytes(path) == b"theirs"
    assert storage.remove_if(path, b"theirs")
    assert storage.read_bytes(path) is None


@given(content=st.binary(max_size=5000))
def test_file_digest_is_size_and_sha256(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        storage.write_replacing(path, content)
        digest = storage.hash_file(path)
    assert digest == storage.FileDigest(len(content), hashlib.sha256(content).hexdigest())


def test_files_are_listed_by_sorted_relative_path(tmp_path: Path) -> None:
    for relative in ("b", "a/z", "a/b/c", "ä"):
        storage.write_exclusive(tmp_path / relative, relative.encode())
    assert storage.list_files(tmp_path) == ["a/b/c", "a/z", "b", "ä"]
    digests = storage.hash_files(tmp_path, storage.list_files(tmp_path))
    assert digests["a/z"].sha256 == hashlib.sha256(b"a/z").hexdigest()


@pytest.mark.parametrize("target", ["file", "folder", "nowhere"])
def test_links_are_refused_by_name(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(StorageError, match=r"/link is a link"):
        storage.list_files(tmp_path)


def test_missing_and_unreadable_files_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*/absent: No such file"):
        storage.hash_file(tmp_path / "absent")
    with pytest.raises(StorageError, match=r"cannot read .*Is a directory"):
        storage.read_bytes(tmp_path)
    (tmp_path / "plain").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write .*/plain/file"):
        storage.write_exclusive(tmp_path / "plain" / "file", b"x")


def test_full_disk_says_so_and_what_to_do_and_leaves_no_torn_file(full_disk: Path) -> None:
    storage.write_exclusive(full_disk / "kept", b"kept")
    target = full_disk / "file" if full_disk.is_mount() else Path("/dev/full")
    with (
        pytest.raises(StorageError, match=r"is full .*Free some space and run the same command again"),
        storage.storage_errors(target, "write"),
        open(target, "wb", buffering=0) as stream,
    ):
        for _ in range(100):
            stream.write(b"x" * 10_000)
    if full_disk.is_mount():
        with pytest.raises(StorageError, match="Free some space"):
            storage.replace_if(full_disk / "kept", b"y" * 10_000, b"kept")
        with pytest.raises(StorageError, match="Free some space"):
            storage.write_exclusive(full_disk / "other", b"y" * 10_000)
        assert [name for name in storage.list_files(full_disk) if not name.endswith(".lock")] == [
            "file",
            "kept",
        ]
    assert storage.read_bytes(full_disk / "kept") == b"kept"


def test_file_size_limit_counts_as_a_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from behaviorlm.errors import StorageError\n"
        "from behaviorlm_ray import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    storage.write_exclusive(sys.argv[1], b'x' * 10_000)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    assert "Free some space and run the same command again" in run.stdout
    assert os.listdir(tmp_path) == []


def test_full_disks_of_other_libraries_are_recognized_through_causes_and_text() -> None:
    outer = RuntimeError("the trainer failed")
    outer.__cause__ = ValueError("Error while serializing: IoError(Os { code: 28 }: No space left on device)")
    assert storage.is_disk_full(outer)
    assert storage.is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not storage.is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not storage.is_disk_full(ValueError("a behavior is named os error 280"))
    circular = ValueError("a")
    circular.__cause__ = circular
    assert not storage.is_disk_full(circular)
