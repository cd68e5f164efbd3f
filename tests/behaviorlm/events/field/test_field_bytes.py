"""Bytes that are no text where text is said to be, and objects that no line end tells apart."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log
from behaviorlm.events.normalization import check_quarantine
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written

TIMES = pa.array([f"2024-01-0{day}" for day in range(1, 5)])
NAMES = [b"a", b"caf\xe9", b"b", "café".encode()]


def as_string(values: pa.Array) -> pa.Array:
    """The bytes said to be text, as some writers do."""
    return pa.Array.from_buffers(pa.string(), len(values), values.buffers())


@pytest.mark.parametrize("kind", ["bytes", "dictionary of bytes", "string"])
@pytest.mark.parametrize("place", ["action", "place"])
def test_one_value_that_is_no_text_takes_one_row_of_a_parquet_file(
    tmp_path: Path, kind: str, place: str
) -> None:
    values = pa.array(NAMES, pa.binary())
    shown = {
        "bytes": lambda: values,
        "dictionary of bytes": values.dictionary_encode,
        "string": lambda: as_string(values),
    }
    table = {"user": ["u"] * 4, "action": ["a", "x", "b", "café"], "time": TIMES, "place": ["p"] * 4}
    pq.write_table(pa.table(table | {place: shown[kind]()}), tmp_path / "log.parquet")
    _, timelines, quarantined = read_log(mapping(tmp_path, context_before=["place"]))
    assert sequences(timelines) == {"u": ["a", "b", "café"]}
    assert quarantined.select(["row", "reason"]).to_pylist() == [{"row": 2, "reason": "not UTF-8"}]


def test_a_file_without_one_row_of_text_ends_in_a_refusal(tmp_path: Path) -> None:
    users = pa.array([b"\xff\xfe"] * 4, pa.binary())
    pq.write_table(pa.table({"user": users, "action": list("abcd"), "time": TIMES}), tmp_path / "log.parquet")
    config = mapping(tmp_path)
    _, timelines, quarantined = read_log(config)
    assert not timelines.num_rows and quarantined.num_rows == 4
    with pytest.raises(DataError, match=r"not UTF-8: 4.*or raise the share; .*set events\.encoding"):
        check_quarantine({"not UTF-8": 4}, 0, config)


def test_times_as_short_floats_are_refused(tmp_path: Path) -> None:
    times = pa.array([1_704_164_653.0 + number for number in range(4)], pa.float32())
    pq.write_table(
        pa.table({"user": ["u"] * 4, "action": list("abcd"), "time": times}), tmp_path / "log.parquet"
    )
    with pytest.raises(
        DataError, match=r"log\.parquet: the column 'time' is of type float and holds .*lost digits"
    ):
        find_log(mapping(tmp_path))
    steps = pa.array(np.array([2, 0, 3, 1], np.float16))
    pq.write_table(
        pa.table({"user": ["u"] * 4, "action": list("abcd"), "time": steps}), tmp_path / "log.parquet"
    )
    _, timelines, _ = read_log(mapping(tmp_path, order={"column": "time", "kind": "integer"}))
    assert sequences(timelines) == {"u": ["b", "d", "a", "c"]}


def test_objects_on_one_line_are_read(tmp_path: Path) -> None:
    rows = [
        {"user": "u", "action": name, "time": f"2024-01-0{9 - place}"} for place, name in enumerate("abcd")
    ]
    folder = written(tmp_path, {"log.json": "".join(map(json.dumps, rows))})
    _, timelines, quarantined = read_log(mapping(folder))
    assert sequences(timelines) == {"u": list("dcba")} and not quarantined.num_rows


@pytest.mark.parametrize("damage", [(b"action", b"\x93ction"), (b"PAR1", b"PAR2")])
def test_a_damaged_end_of_a_parquet_file_is_refused(tmp_path: Path, damage: tuple[bytes, bytes]) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(
        pa.table({"user": ["u"] * 4, "action": list("abcd"), "time": TIMES}), path, store_schema=False
    )
    path.write_bytes(path.read_bytes().replace(*damage))
    with pytest.raises(DataError, match=r"log\.parquet: "):
        read_log(mapping(tmp_path))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_keys_within_text_are_refused_by_the_column_that_holds_it(tmp_path: Path, name: str) -> None:
    inner = json.dumps({"user": "u"})
    row = {"properties": inner, "action": "a", "time": "2024-01-01"}
    content = (
        json.dumps(row) if name.endswith("l") else "properties,action,time\n" + '"{""user"":1}",a,2024\n'
    )
    with pytest.raises(
        DataError, match=r"no column 'properties\.user'.*'properties' holds no object in which"
    ):
        find_log(mapping(written(tmp_path, {name: content}), user="properties.user"))
