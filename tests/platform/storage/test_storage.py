"""Storage: content is whole, only known bytes are replaced, of two writers one wins, a full disk is told."""

import errno
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location, S3Location


def test_exclusive_write_creates_once_and_keeps_the_first(root: Location) -> None:
    path = root / "deep" / "file"
    assert storage.write_exclusive(path, b"first")
    assert not storage.write_exclusive(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.list_files(root) == ["deep/file"]
    assert storage.list_folders(root) == ["deep"]


def test_of_many_concurrent_writers_one_wins_and_readers_see_whole_content(root: Location) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda content: storage.write_exclusive(root / "file", content), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(root / "file") == contents[won.index(True)]


def test_of_many_concurrent_replacements_of_the_same_bytes_one_wins(root: Location) -> None:
    storage.write_exclusive(root / "file", b"old")
    contents = [str(number).encode() for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda new: storage.replace_if(root / "file", new, b"old"), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(root / "file") == contents[won.index(True)]


def test_replace_and_remove_refuse_other_bytes_and_missing_files(root: Location) -> None:
    path = root / "file"
    assert not storage.replace_if(path, b"new", b"old")
    assert not storage.remove_if(path, b"old")
    storage.write_replacing(path, b"theirs")
    assert not storage.replace_if(path, b"new", b"old")
    assert not storage.remove_if(path, b"old")
    assert storage.read_bytes(path) == b"theirs"
    assert storage.remove_if(path, b"theirs")
    assert storage.read_bytes(path) is None


def test_files_written_in_a_block_are_in_place_after_it_and_none_if_it_fails(root: Location) -> None:
    with storage.writing(root / "folder") as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_bytes(b"b")
        (folder / "c").write_bytes(b"")
    with storage.writing_file(root / "folder" / "d") as path:
        path.write_bytes(b"d")
    with pytest.raises(ZeroDivisionError), storage.writing_file(root / "folder" / "e") as path:
        path.write_bytes(b"half")
        print(1 / 0)
    digests = storage.describe_folder(root / "folder")
    assert digests["a/b"] == storage.FileDigest(1, hashlib.sha256(b"b").hexdigest())
    assert sorted(digests) == ["a/b", "c", "d"]
    copy = storage.local_copy(root / "folder")
    assert {name: (copy / name).read_bytes() for name in digests} == {"a/b": b"b", "c": b"", "d": b"d"}
    assert storage.local_copy(root / "folder" / "d").read_bytes() == b"d"
    storage.remove_folder(root / "folder")
    assert storage.list_files(root / "folder") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gs://bucket/runs", "no storage of kind 'gs'"),
        ("s3://ab/runs", "'ab' is no name of a bucket"),
        ("s3://My_Bucket", "is no name of a bucket"),
        ("s3:///runs", "'' is no name of a bucket"),
        ("s3://bucket/a//b", "no empty parts"),
        ("s3://bucket/../other", "no '.' or '..'"),
    ],
)
def test_places_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        storage.location(text)


def test_a_place_on_s3_is_used_like_a_path() -> None:
    place = storage.location("s3://bucket/runs/demo/")
    assert isinstance(place, S3Location)
    assert str(place) == "s3://bucket/runs/demo"
    assert str(place / "a" / "b") == "s3://bucket/runs/demo/a/b"
    assert (place / "a").name == "a" and (place / "a").parent == place
    assert [str(above) for above in place.parents] == ["s3://bucket/runs", "s3://bucket"]
    known = storage.with_digests(place, {"m/w": storage.FileDigest(1, "x"), "m2": storage.FileDigest(2, "y")})
    assert isinstance(known, S3Location)
    below = pickle.loads(pickle.dumps(known / "m"))
    assert below == place / "m" and below.digests == {"w": storage.FileDigest(1, "x")}
    assert (known / "m2").digests == {"": storage.FileDigest(2, "y")}


@given(content=st.binary(max_size=5000))
def test_file_digest_is_size_and_sha256(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        storage.write_replacing(path, content)
        digest = storage.hash_file(path)
    assert digest == storage.FileDigest(len(content), hashlib.sha256(content).hexdigest())


def test_files_are_listed_by_sorted_relative_path(root: Location) -> None:
    for relative in ("b", "a/z", "a/b/c", "ä"):
        storage.write_exclusive(root / relative, relative.encode())
    assert storage.list_files(root) == ["a/b/c", "a/z", "b", "ä"]
    digests = storage.hash_files(root, storage.list_files(root))
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
        "from pathlib import Path\n"
        "from behaviorlm.errors import StorageError\n"
        "from behaviorlm_ray import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    storage.write_exclusive(Path(sys.argv[1]), b'x' * 10_000)\n"
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
