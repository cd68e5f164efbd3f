"""Parquet of every type: read as the text that the value would be in CSV, or refused by column and type."""

import datetime
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log
from behaviorlm.log_files.parquet_text import as_text, is_readable
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences

IDS = [uuid.UUID(int=number * 2**100 + 7) for number in range(3)]
MOMENT = 1_704_098_580


def write(path: Path, **columns: Any) -> Path:
    """A Parquet file; its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path.parent


def texts(values: Any, value_type: pa.DataType | None = None) -> list[str | None]:
    """The text of values of a type."""
    return as_text(pa.array(values, value_type)).cast(pa.string()).to_pylist()


@pytest.mark.parametrize(
    ("values", "value_type", "expected"),
    [
        ([1704098580123.0, 1704098580123.5, None], pa.float64(), ["1704098580123", "1704098580123.5", None]),
        ([1e15, 2.0**53, float("nan")], pa.float64(), ["1000000000000000", "9007199254740992", None]),
        ([1e22, -0.0, 1e-9, 0.1], pa.float64(), ["10000000000000000000000", "0", "0.000000001", "0.1"]),
        ([16777216.0, 0.1, 1e10, 1e-6], pa.float32(), ["16777216", "0.1", "10000000000", "0.000001"]),
        ([1.0, 0.1, None, 2048.0], pa.float16(), ["1", "0.1", None, "2048"]),
        ([2**64 - 1, None], pa.uint64(), ["18446744073709551615", None]),
        ([Decimal("12.50"), Decimal("0.000000001"), None], pa.decimal128(30, 9), ["12.500000000", "0.000000001", None]),
        ([Decimal(10**30)], pa.decimal256(40, 0), ["1" + "0" * 30]),
        ([MOMENT], pa.timestamp("s"), ["2024-01-01 08:43:00"]),
        ([MOMENT * 10**9 + 123456789], pa.timestamp("ns"), ["2024-01-01 08:43:00.123456789"]),
        ([MOMENT * 1000 + 5], pa.timestamp("ms", "Europe/Prague"), ["2024-01-01 09:43:00.005+0100"]),
        ([datetime.date(2024, 2, 29)], pa.date32(), ["2024-02-29"]),
        ([datetime.date(2024, 2, 29)], pa.date64(), ["2024-02-29"]),
        ([34_087_530_000], pa.time64("us"), ["09:28:07.530000"]),
        ([3_600_000 * 30 + 1, -1500, None], pa.duration("ms"), ["30:00:00.001", "-00:00:01.500", None]),
        ([61], pa.duration("s"), ["00:01:01"]),
        ([True, None, False], pa.bool_(), ["true", None, "false"]),
        ([b"ab", None], pa.binary(2), ["ab", None]),
        (["x", None], pa.dictionary(pa.int8(), pa.large_string()), ["x", None]),
        ([IDS[0].bytes, None, IDS[2].bytes], pa.uuid(), [str(IDS[0]), None, str(IDS[2])]),
        ([None, None], pa.null(), [None, None]),
    ],
)  # fmt: skip
def test_values_of_a_type_are_written_with_all_their_digits(
    values: Any, value_type: pa.DataType, expected: list[str | None]
) -> None:
    assert texts(values, value_type) == expected
    assert texts([None, *values], value_type)[1:] == expected  # value by value, whatever stands beside it
    assert as_text(pa.array([None, *values], value_type)[1:]).cast(pa.string()).to_pylist() == expected
    assert is_readable(value_type)


@pytest.mark.parametrize(
    "value_type", [pa.month_day_nano_interval(), pa.list_(pa.int8()), pa.map_(pa.int8(), pa.int8())]
)
def test_other_types_are_not_read(value_type: pa.DataType) -> None:
    assert not is_readable(value_type)


def test_users_with_a_uuid_are_read_as_text(tmp_path: Path) -> None:
    users = pa.array([user.bytes for user in IDS], pa.uuid())
    folder = write(
        tmp_path / "log.parquet", user=users, action=["a", "b", "c"], time=pa.array([1, 2, 3], pa.date32())
    )
    _, timelines, _ = read_log(mapping(folder))
    assert sequences(timelines) == {str(user): [action] for user, action in zip(IDS, "abc", strict=True)}


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (
            pa.array([IDS[1].bytes, b"\xff" * 16], pa.binary(16)),
            r"'user' of type fixed_size_binary\[16\].*write it as text",
        ),
        (pa.array([["u"], ["v"]]), r"'user' is of type list<.*events\.explode: user"),
        (pa.array([{"id": "u"}, {"id": "v"}]), r"'user' is of type struct<.*such as user\.id"),
    ],
)
def test_a_type_that_is_no_plain_value_is_refused_by_column_and_type(
    tmp_path: Path, user: pa.Array, message: str
) -> None:
    folder = write(tmp_path / "log.parquet", user=user, action=["a", "b"], time=["2024-01-01", "2024-01-02"])
    with pytest.raises(DataError, match=rf"log\.parquet: the column {message}"):
        read_log(mapping(folder))


def test_the_files_of_a_log_may_differ_in_their_types(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    for number, user in enumerate(
        ([7], [7.0, None], ["7"], [Decimal(7)], pa.array(["7"]).dictionary_encode())
    ):
        at = pa.array(
            [day + datetime.timedelta(days=number)] * len(user),
            pa.timestamp("ms" if number % 2 else "ns", "UTC"),
        )
        write(tmp_path / f"part-{number}.parquet", time=at, user=user, action=[f"a{number}"] * len(user))
    _, timelines, quarantined = read_log(mapping(tmp_path))
    assert sequences(timelines) == {"7": ["a0", "a1", "a2", "a3", "a4"]}
    assert quarantined["reason"].to_pylist() == ["empty user"]


def test_a_file_may_lack_a_context_column_but_not_the_user(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", user=["u"], action=["a"], time=["2024-01-01"])
    write(tmp_path / "2.parquet", user=["u"], action=["b"], time=["2024-01-02"], place=["home"])
    log, timelines, _ = read_log(mapping(tmp_path, context_before=["place"]))
    assert timelines["before.place"].to_pylist() == [None, "home"]
    assert any("1.parquet" in note and "'place'" in note for note in log.notes)
    write(tmp_path / "3.parquet", action=["a"], time=["2024-01-01"])
    with pytest.raises(DataError, match=r"3\.parquet: no column 'user'"):
        find_log(mapping(tmp_path))


def test_values_inside_of_structs_and_lists(tmp_path: Path) -> None:
    events = [
        [{"a": "x", "t": "2024-01-02"}, {"a": "y", "t": "2024-01-01"}],
        [],
        None,
        [{"a": "z", "t": "2024-01-03"}],
    ]
    users = [{"id": "u"}, {"id": "u"}, {"id": "v"}, {"id": "v"}]
    folder = write(tmp_path / "log.parquet", user=users, events=events)
    keys = {"user": "user.id", "behavior": "events.a", "order": {"column": "events.t"}, "explode": "events"}
    _, timelines, quarantined = read_log(mapping(folder, **keys))
    assert sequences(timelines) == {"u": ["y", "x"], "v": ["z"]}
    assert quarantined["reason"].to_pylist() == ["malformed row"]


def test_lists_side_by_side(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "log.parquet",
        user=["u", "v"],
        action=[["a", "b"], ["c", "d"]],
        step=pa.array([[5, 5], [1, 0]], pa.list_(pa.int8(), 2)),
    )
    order = {"column": "step", "kind": "integer"}
    _, timelines, _ = read_log(mapping(folder, order=order, explode=["action", "step"]))
    assert sequences(timelines) == {"u": ["a", "b"], "v": ["d", "c"]}


@pytest.mark.parametrize(("key", "there"), [("action", "of type string"), ("p.events", "not there")])
def test_a_list_that_is_none_is_refused(tmp_path: Path, key: str, there: str) -> None:
    folder = write(tmp_path / "log.parquet", user=["u"], action=["a"], time=["2024-01-01"])
    with pytest.raises(DataError, match=rf"log\.parquet: the list '{key}' \(events\.explode\) is {there}"):
        find_log(mapping(folder, explode=key))
