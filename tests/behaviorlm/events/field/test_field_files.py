"""Which files of a folder are a log, and what is told of the others."""

import bz2
import gzip
import lzma
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.log import find_log
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.source_files import find_files
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written

HEADER = "user,action,time\n"


def day(number: int, action: str = "x") -> str:
    """A file of one event."""
    return f"{HEADER}a,{action}{number},2024-01-{number:02d}\n"


def zstd(content: bytes) -> bytes:
    """Packed by zstd."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def read(folder: Path, **changes: object) -> tuple[list[str], str]:
    """(the behaviors of user a, all that is told)."""
    log, timelines, quarantined = read_log(mapping(folder, **changes))
    assert not quarantined.num_rows
    return sequences(timelines)["a"], "\n".join(log.notes)


def test_a_linked_month_is_read_and_a_loop_is_not_followed(tmp_path: Path) -> None:
    written(tmp_path, {"logs/01/a.csv": day(1), "disk2/02/a.csv": day(2), "disk2/03/a.csv": day(3)})
    (tmp_path / "logs/02").symlink_to("../disk2/02")
    (tmp_path / "logs/03.csv").symlink_to("../disk2/03/a.csv")
    (tmp_path / "logs/01/loop").symlink_to("..")
    (tmp_path / "logs/gone.csv").symlink_to("nowhere.csv")
    behaviors, told = read(tmp_path / "logs")
    assert behaviors == ["x1", "x2", "x3"]
    assert "loop is" in told and "by another name" in told
    assert "links to nowhere" in told and "gone.csv" in told


def test_one_file_by_three_names_is_read_once_and_told(tmp_path: Path) -> None:
    written(tmp_path, {"data/2024.csv": day(1)})
    (tmp_path / "latest.csv").symlink_to("data/2024.csv")
    os.link(tmp_path / "data/2024.csv", tmp_path / "data/hard.csv")
    paths = [str(tmp_path / "data"), str(tmp_path / "latest.csv"), str(tmp_path / "data" / ".." / "data")]
    behaviors, told = read(tmp_path, paths=paths)
    assert behaviors == ["x1"]
    assert f"{tmp_path}/latest.csv is {tmp_path}/data/" in told


def test_two_files_of_equal_bytes_are_both_read_and_told(tmp_path: Path) -> None:
    written(tmp_path, {"a.csv": day(1), "b.csv": day(1), "c.csv": day(2)})
    behaviors, told = read(tmp_path)
    assert behaviors == ["x1", "x1", "x2"]
    assert "b.csv and" in told and "a.csv hold the same bytes" in told and "c.csv" not in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv.bz2", bz2.compress(day(1).encode())),
        ("LOG.CSV.GZ", gzip.compress(day(1).encode(), mtime=0)),
        ("log.csv.xz", lzma.compress(day(1).encode())),
        ("log.csv.zst", zstd(day(1).encode())),
        ("log.Csv.Zstd", zstd(day(1).encode())),
        ("log.csv", gzip.compress(day(1).encode(), mtime=0)),  # packed, though its name does not say so
        ("log.csv.gz", zstd(day(1).encode())),
        ("log.tsv", day(1).replace(",", "\t").encode()),
        ("log.txt", day(1).encode()),
        ("log.json", b'{"user": "a", "action": "x1", "time": "2024-01-01"}'),
        ("log.NDJSON", b'{"user": "a", "action": "x1", "time": "2024-01-01"}'),
    ],
)
def test_suffixes_in_any_case_and_packings_by_what_they_are(
    tmp_path: Path, name: str, content: bytes
) -> None:
    assert read(written(tmp_path, {name: content})) == (["x1"], "")


def test_a_packed_file_without_a_suffix_is_read_where_the_format_is_named(tmp_path: Path) -> None:
    assert read(written(tmp_path, {"export": gzip.compress(day(1).encode())}), format="csv")[0] == ["x1"]


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst", ".zip"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "another"])
def test_a_damaged_packing_is_refused_by_name(tmp_path: Path, packing: str, damage: str) -> None:
    text = (HEADER + "".join(f"u{i * 7919 % 10007},x,2024-01-01\n" for i in range(2000))).encode()
    if packing == ".zip":
        with zipfile.ZipFile(tmp_path / "log.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("log.csv", text)
        content = bytearray((tmp_path / "log.csv.zip").read_bytes())
    else:
        packs: dict[str, Callable[[bytes], bytes]] = {
            ".gz": gzip.compress,
            ".bz2": bz2.compress,
            ".xz": lzma.compress,
            ".zst": zstd,
        }
        content = bytearray(packs[packing](text))
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"user,action,time\n")
    (tmp_path / f"log.csv{packing}").write_bytes(content)
    if packing == ".zst" and damage == "flipped":
        return  # without a checksum, as Arrow writes, a changed byte may give other text
    with pytest.raises(DataError, match=r"log\.csv\.\w+: .*(damaged|its name says)"):
        read(tmp_path)


def test_a_zip_of_one_file_is_read_and_of_several_refused_by_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", day(1))
        archive.writestr("__MACOSX/._log.csv", "x")
    assert read(tmp_path)[0] == ["x1"]
    with zipfile.ZipFile(tmp_path / "export.zip", "a") as archive:
        archive.writestr("other.csv", day(2))
    with pytest.raises(DataError, match=r"export\.zip: .*holds 2 \(log\.csv, other\.csv\); unpack it"):
        find_log(mapping(tmp_path))


def test_whatever_is_passed_over_is_named(tmp_path: Path) -> None:
    others: dict[str, bytes | str] = {
        "a.xlsx": b"PK",
        "b.log": "x",
        "LICENSE": "x",
        "_SUCCESS": "",
        ".part.crc": "x",
        "_temporary/a.csv": day(3),
    }
    written(
        tmp_path, {"log.csv": day(1), **others, "notes.txt": "nothing\n", "schema.json": '{"fields": []}'}
    )
    behaviors, told = read(tmp_path)
    assert behaviors == ["x1"]
    for part in (
        "a.xlsx",
        "b.log",
        "LICENSE",
        "3 hidden files",
        "none of the log's columns",
        "notes.txt",
        "schema.json",
    ):
        assert part in told
    assert "log.csv" not in told


def test_a_text_file_with_some_of_the_columns_is_no_stranger(tmp_path: Path) -> None:
    written(tmp_path, {"log.csv": day(1), "more.txt": "user,what\na,b\n"})
    with pytest.raises(DataError, match=r"more\.txt: no column 'action'"):
        find_log(mapping(tmp_path))


def test_a_link_that_was_copied_as_text_is_told_apart(tmp_path: Path) -> None:
    written(tmp_path, {"log.csv": day(1), "disk/02/a.csv": day(2), "02": "disk/02"})
    assert "02: passed over: it holds only 'disk/02', a link that was copied as text" in read(tmp_path)[1]
    written(tmp_path, {"latest.csv": "log.csv"})
    with pytest.raises(DataError, match=r"latest\.csv: no column 'user'.*a link that was copied as text"):
        find_log(mapping(tmp_path))


def test_files_are_in_natural_order_which_decides_ties(tmp_path: Path) -> None:
    names = ["part-10.csv", "part-2.csv", "part-1.csv", "part-01.csv", "a9/x.csv", "a10/x.csv"]
    written(tmp_path, {name: f"{HEADER}a,{name},2024-01-01\n" for name in names})
    ordered = ["a9/x.csv", "a10/x.csv", "part-01.csv", "part-1.csv", "part-2.csv", "part-10.csv"]
    assert [
        Path(file.path).relative_to(tmp_path).as_posix() for file in find_files(mapping(tmp_path)).files
    ] == ordered
    assert read(tmp_path)[0] == ordered


def test_a_glob_passes_over_markers_and_asks_for_the_format_of_others(tmp_path: Path) -> None:
    written(tmp_path, {"log.csv": day(1), "_SUCCESS": ""})
    assert read(tmp_path, paths=[f"{tmp_path}/*"])[0] == ["x1"]
    written(tmp_path, {"README": "x"})
    with pytest.raises(ConfigError, match="README has no known suffix"):
        find_log(mapping(tmp_path, paths=[f"{tmp_path}/*"]))


def test_what_only_its_case_keeps_from_a_glob_is_named(tmp_path: Path) -> None:
    written(tmp_path, {"a.csv": day(1), "B.CSV": day(2), "c.Csv.gz": gzip.compress(day(3).encode())})
    behaviors, told = read(tmp_path, paths=[f"{tmp_path}/*.csv"])
    assert behaviors == ["x1"]
    assert told == f"passed over, for the glob has its letters in another case: {tmp_path}/B.CSV"
    assert read(tmp_path, paths=[f"{tmp_path}/*.csv", f"{tmp_path}/B*"]) == (["x1", "x2"], "")


def test_a_local_url_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"only local files .*; write {tmp_path}/a\.csv$"):
        find_log(mapping(tmp_path, paths=[f"file://{tmp_path}/a.csv"]))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    rows = "".join(f"a,{'x' * 200}{number},2024-01-01\n" for number in range(300))

    def peak(files: int) -> int:
        config = mapping(written(tmp_path / str(files), {f"{n}.csv": HEADER + rows for n in range(files)}))
        listed = find_files(config).files
        tracemalloc.start()
        try:
            check_columns(config, listed)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is made once
    assert peak(40) < 1.5 * peak(4)


def test_a_folder_without_a_log_says_what_was_passed_over(tmp_path: Path) -> None:
    written(tmp_path, {"a.xlsx": "x"})
    with pytest.raises(DataError, match=r"no file with a suffix of .*; passed over.*a\.xlsx"):
        find_log(mapping(tmp_path))


def test_folders_name_a_column_that_files_do_not_have(tmp_path: Path) -> None:
    written(tmp_path, {"place=at%20home/a.csv": day(1), "place=__HIVE_DEFAULT_PARTITION__/a.csv": day(2)})
    _, timelines, _ = read_log(mapping(tmp_path, context_before=["place"]))
    assert timelines["before.place"].to_pylist() == ["at home", None]


@pytest.mark.parametrize(
    "content", [b"PAR1xxxx", b"SQLite format 3\0xx", b"<!DOCTYPE html><html>", b"%PDF-1.7\n"]
)
def test_what_is_no_csv_though_its_name_says_so_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"log\.csv"):
        find_log(mapping(written(tmp_path, {"log.csv": content})))
