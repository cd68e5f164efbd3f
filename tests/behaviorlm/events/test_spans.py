"""Large files cut into spans: the same events, quarantine and row numbers as of the whole file, or no cut at all."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.events.config import EventsConfig
from behaviorlm.events.log import Piece, find_log, read_events, read_piece
from behaviorlm.events.spans import look_through, row_groups, spans_of, windows_of
from tests.behaviorlm.events.field.field_logs import mapping

ROWS = 4_000
SPAN_BYTES = 10_000


def log_of(tmp_path: Path, name: str, content: bytes, **keys: Any) -> EventsConfig:
    (tmp_path / name).write_bytes(content)
    return mapping(tmp_path, **keys)


def by_spans(config: EventsConfig) -> tuple[int, pa.Table, pa.Table]:
    """(how many pieces, events, quarantine) of the log's only file."""
    log = find_log(config)
    (file,) = log.files
    windows = windows_of(file, log.events, SPAN_BYTES)
    spans = spans_of(windows, [look_through(window) for window in windows])
    spans = spans or row_groups(file, log.events, SPAN_BYTES)
    pieces = [Piece(0, file, span) for span in spans] or [Piece(0, file)]
    assert [piece.name for piece in pieces] == sorted(piece.name for piece in pieces)
    tables = [tables for piece in pieces for tables in read_piece(piece, log.events)]
    return len(pieces), *map(pa.concat_tables, zip(*tables, strict=True))


def whole(config: EventsConfig) -> tuple[pa.Table, pa.Table]:
    events, quarantine = zip(*read_events(find_log(config)), strict=True)
    return pa.concat_tables(events), pa.concat_tables(quarantine)


def csv_row(number: int) -> str:
    if number % 97 == 5:
        return f"u{number},too,many,columns"
    if number % 101 == 7:
        return f"u{number},schön {number % 7},no time"
    return f"u{number % 50},schön {number % 7},2024-05-01T10:{number % 60:02d}:00"


def json_row(number: int) -> str:
    if number % 97 == 5:
        return "" if number % 2 else '{"user": broken'
    row = {
        "user": f"u{number % 50}",
        "action": f'"a" {number % 7}',
        "time": f"2024-05-01T10:{number % 60:02d}:00",
    }
    return json.dumps(row if number % 101 else {"user": "nobody"})


CSV = "user,action,time\n" + "\n".join(map(csv_row, range(ROWS)))
JSON = "\n".join(map(json_row, range(ROWS))) + "\n"

QUOTED_TIME = {"order": {"column": 'ti"me'}}


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("log.csv", CSV.encode(), {}),
        ("log.csv", b"\xef\xbb\xbf" + CSV.encode() + b"\n", {}),
        ("log.csv", CSV.replace("schön 3", "sch\udcff").encode("utf-8", "surrogateescape"), {}),
        ("log.csv", CSV.replace(" ", '"').encode(), {"quote": None}),
        ("log.csv", CSV.partition("\n")[2].encode(), {"column_names": ["user", "action", "time"]}),
        ("log.csv", CSV.replace("user,action,time", '"user","action","ti""me"').encode(), QUOTED_TIME),
        ("log.jsonl", JSON.encode(), {}),
        ("log.jsonl", b"\xef\xbb\xbf" + JSON.encode().removesuffix(b"\n"), {}),
    ],
)
def test_spans_read_as_the_whole_file_does(
    tmp_path: Path, name: str, content: bytes, keys: dict[str, Any]
) -> None:
    config = log_of(tmp_path, name, content, **keys)
    pieces, events, quarantine = by_spans(config)
    assert pieces > 5
    expected, set_aside = whole(config)
    assert len(expected) > ROWS // 2 and len(set_aside) > 50
    assert events.combine_chunks() == expected.combine_chunks()
    rows = [("row", "ascending")]
    assert quarantine.sort_by(rows).combine_chunks() == set_aside.sort_by(rows).combine_chunks()


@pytest.mark.parametrize("size", [SPAN_BYTES, 3 * SPAN_BYTES])
def test_row_groups_of_parquet_are_spans(tmp_path: Path, size: int) -> None:
    rows = [
        (f"u{number * 7919 % 4001}", f"a{number % 7}", f"2024-05-01T10:00:00.{number:06d}")
        for number in range(ROWS)
    ]
    table = pa.table(list(map(list, zip(*rows, strict=True))), ["user", "action", "time"])
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=170, compression="none")
    pieces, events, _ = by_spans(mapping(tmp_path))
    assert 2 < pieces < ROWS // 170
    assert events.combine_chunks() == whole(mapping(tmp_path))[0].combine_chunks()


UNSURE: dict[str, tuple[str, Callable[[], bytes], dict[str, Any]]] = {
    "a quoted value": ("log.csv", lambda: (CSV + '\nu1,"a\nb",2024-05-01T10:00:00\n').encode(), {}),
    "a header of two lines": (
        "log.csv",
        lambda: CSV.replace("time", '"ti\nme"', 1).encode(),
        {"order": {"column": "ti\nme"}},
    ),
    "an empty line": ("log.csv", lambda: CSV.replace("\nu7,", "\n\nu7,").encode(), {}),
    "an empty line at the beginning": ("log.csv", lambda: b"\n" + CSV.encode(), {}),
    "an empty line after a mark": ("log.csv", lambda: b"\xef\xbb\xbf\n" + CSV.encode(), {}),
    "an empty line at the end": ("log.csv", lambda: CSV.encode() + b"\n\n", {}),
    "line ends of two bytes": ("log.csv", lambda: CSV.replace("\n", "\r\n").encode(), {}),
    "an escape": ("log.csv", CSV.encode, {"escape": "\\"}),
    "lines that are passed over": ("log.csv", lambda: b"title\n" + CSV.encode(), {"skip_rows": 1}),
    "comments": ("log.csv", CSV.encode, {"comment": "#"}),
    "a line with the separator": ("log.csv", lambda: b"sep=,\n" + CSV.encode(), {}),
    "another encoding": ("log.csv", lambda: CSV.encode("utf-16"), {}),
    "a packed file": ("log.csv.gz", lambda: gzip.compress(CSV.encode() * 9, 0), {}),
    "an array": (
        "log.json",
        lambda: b"[" + b",".join(filter(None, map(good_object, range(ROWS)))) + b"]",
        {},
    ),
}


def good_object(number: int) -> bytes:
    return json_row(number).encode() if number % 97 != 5 else b""


@pytest.mark.parametrize("case", UNSURE)
def test_what_cannot_surely_be_cut_is_read_whole(tmp_path: Path, case: str) -> None:
    name, content, keys = UNSURE[case]
    config = log_of(tmp_path, name, content(), **keys)
    log = find_log(config)
    windows = windows_of(log.files[0], log.events, SPAN_BYTES)
    assert log.files[0].size > 5 * SPAN_BYTES
    assert spans_of(windows, [look_through(window) for window in windows]) == []
