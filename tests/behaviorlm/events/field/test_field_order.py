"""What puts events in order: several columns, sessions, durations, any 64 bits; ties are counted and told."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log, read_events
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.parts import Window, history_starts, window_starts
from behaviorlm.timelines.samples import build_timelines
from behaviorlm.timelines.tie_breakers import warning_of_ties
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written


def visits(seed: int = 0) -> pd.DataFrame:
    """Visits of five users, in each of which steps are counted anew; shuffled, as an export without an order is."""
    draw = random.Random(seed)
    rows = [
        (f"u{user}", visit, step, f"b{user}-{visit}-{step}")
        for user in range(5)
        for visit in range(1, 13)
        for step in range(1, draw.randint(2, 5))
    ]
    draw.shuffle(rows)
    return pd.DataFrame(rows, columns=["user", "visit", "step", "action"])


def by_pandas(table: pd.DataFrame, by: list[str]) -> dict[str, list[str]]:
    ordered = table.sort_values(["user", *by], kind="stable")
    return {user: rows["action"].tolist() for user, rows in ordered.groupby("user")}


def told(config: Any) -> tuple[dict[str, int], str | None]:
    """(counts, warning of ties) of a log."""
    log = find_log(config)
    events = pa.concat_tables([usable for usable, _ in read_events(log)])
    _, counts = build_timelines(events, log.events, SplitConfig(), 1, "field")
    return counts, warning_of_ties(log, counts)


@pytest.mark.parametrize("kind", ["integer", ["integer", "integer"]])
def test_several_columns_order_the_first_counts_most(tmp_path: Path, kind: Any) -> None:
    table = visits()
    table.to_csv(tmp_path / "log.csv", index=False)
    config = mapping(tmp_path, order={"column": ["visit", "step"], "kind": kind})
    _, timelines, _ = read_log(config)
    assert sequences(timelines) == by_pandas(table, ["visit", "step"])
    assert told(config)[0]["tied_events"] == 0


def test_columns_of_an_order_may_be_of_different_kinds(tmp_path: Path) -> None:
    table = visits(1)
    table["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(table["visit"] // 4, unit="D")
    table["clock"] = [
        f"{visit % 4}:{step:02d}:00,{step}5" for visit, step in zip(table.visit, table.step, strict=True)
    ]
    table["millis"] = (table["visit"] * 100 + table["step"]) + 1_704_000_000_000
    expected = by_pandas(table, ["visit", "step"])
    table["day"] = table["day"].dt.strftime("%d.%m.%Y")
    table.to_csv(tmp_path / "log.csv", index=False)
    orders = (
        {"column": ["day", "clock"], "kind": ["time", "duration"], "time_format": ["%d.%m.%Y", None]},
        {"column": ["day", "millis"], "kind": "time", "time_format": ["%d.%m.%Y", None]},
        {
            "column": ["day", "visit", "step"],
            "kind": ["time", "integer", "integer"],
            "time_format": "%d.%m.%Y",
        },
    )
    for order in orders:
        _, timelines, quarantined = read_log(mapping(tmp_path, order=order, clock=["weekday"]))
        assert sequences(timelines) == expected and not quarantined.num_rows, order


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"column": ["a", "a"]}, "each is named once"),
        ({"column": []}, "name a column"),
        ({"column": ["a", ""]}, "name a column"),
        ({"column": ["a", "b"], "kind": ["integer"]}, "kind has 1 values for 2 columns"),
        ({"column": ["a", "b"], "kind": ["integer", "date"]}, "allowed are time, integer, duration"),
        ({"column": "a", "epoch": "1970"}, "allowed are unix, 2001"),
        ({"column": "a", "earliest": "2024-02-01", "latest": "2024-01-01"}, "lies before earliest"),
        ({"column": ["a", "b"], "kind": "integer", "epoch": 2001}, "only with kind: time"),
    ],
)
def test_an_order_that_cannot_be_meant_is_refused(order: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        mapping(Path("log.csv"), order=order)


def test_a_missing_column_of_an_order_names_the_key(tmp_path: Path) -> None:
    visits().to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DataError, match=r"no column 'stop' \(events\.order\.column\)"):
        read_log(mapping(tmp_path, order={"column": ["visit", "stop"], "kind": "integer"}))


def in_sessions(seed: int, is_interleaved: bool) -> pd.DataFrame:
    """Sessions with names that say nothing of their order; interleaved: one begins before another ends."""
    draw = random.Random(seed)
    table = visits(seed)
    names = {visit: f"s{draw.getrandbits(32):08x}" for visit in range(1, 13)}
    length = 2 if is_interleaved else 10
    table["time"] = table["visit"] * length + table["step"] * (1.5 if is_interleaved else 1) + 1_704_000_000
    table["session"] = [names[visit] for visit in table["visit"]]
    starts = table.groupby(["user", "session"])["time"].transform("min")
    return table.assign(start=starts)


@pytest.mark.parametrize("is_interleaved", [False, True])
def test_sessions_follow_each_other_by_their_first_event(tmp_path: Path, is_interleaved: bool) -> None:
    table = in_sessions(3, is_interleaved)
    table.to_csv(tmp_path / "log.csv", index=False)
    _, timelines, _ = read_log(mapping(tmp_path, session="session"))
    assert sequences(timelines) == by_pandas(table, ["start", "session", "time"])
    assert (sequences(timelines) == by_pandas(table, ["time"])) != is_interleaved


def test_a_session_s_steps_are_ordered_within_it_and_equal_starts_are_ties(tmp_path: Path) -> None:
    table = visits(4).sort_values(["visit", "step"])
    table.to_csv(tmp_path / "log.csv", index=False)
    config = mapping(tmp_path, session="visit", order={"column": "step", "kind": "integer"})
    _, timelines, _ = read_log(config)
    assert sequences(timelines) == by_pandas(table, ["visit", "step"])
    counts, warning = told(config)
    assert counts["tied_events"] == 5 * 11
    assert warning is not None and "session visit, step" in warning and "can be trusted" in warning


def test_events_without_a_session_are_quarantined(tmp_path: Path) -> None:
    log = "user,action,time,session\nu,a,2024-01-01,s\nu,b,2024-01-02,\n"
    _, timelines, quarantined = read_log(mapping(written(tmp_path, {"log.csv": log}), session="session"))
    assert timelines.num_rows == 1
    assert quarantined.to_pylist()[0]["reason"] == "empty session"


def test_histories_that_do_not_cross_sessions_begin_with_them(tmp_path: Path) -> None:
    table = in_sessions(5, False)
    table["action"] = "same"
    table.to_csv(tmp_path / "log.csv", index=False)
    config = mapping(tmp_path, session="session", histories_cross_sessions=False)
    _, timelines, _ = read_log(config)
    lengths = table.sort_values(["user", "start"]).groupby(["user", "start"]).size().tolist()
    assert timelines["session_position"].to_pylist() == [
        place for length in lengths for place in range(length)
    ]
    assert timelines["is_target"].to_pylist() == [place > 0 for length in lengths for place in range(length)]
    assert timelines["is_repeat"].to_pylist() == timelines["is_target"].to_pylist()
    starts = history_starts(timelines)
    windows = window_starts(starts, np.ones(len(starts), np.int64), Window(3, 2, 100))
    rows = np.arange(len(starts))
    assert (windows >= starts).all() and (rows - windows <= 3).all()
    assert (windows[rows > starts] < rows[rows > starts]).all()
    # Splits, positions and ids stay by user.
    _, crossing, _ = read_log(mapping(tmp_path, session="session"))
    for name in ("position", "split", "sample_id", "user"):
        assert timelines[name].equals(crossing[name])
    with pytest.raises(ValidationError, match="histories_cross_sessions: false needs session"):
        mapping(tmp_path, histories_cross_sessions=False)


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True), data=st.data()
)
def test_any_64_bits_are_an_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], data: st.DataObject
) -> None:
    forms = st.sampled_from(["{}", "{}.0", "{}.000", " {} ", "{}e0"])
    texts = [data.draw(forms).format(number) for number in numbers]
    rows = "".join(f"u,{number},{text}\n" for number, text in zip(numbers, texts, strict=True))
    folder = written(tmp_path_factory.mktemp("log"), {"log.csv": f"user,action,time\n{rows}"})
    _, timelines, quarantined = read_log(mapping(folder, order={"column": "time", "kind": "integer"}))
    assert not quarantined.num_rows
    assert [int(name) for name in sequences(timelines)["u"]] == sorted(numbers)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, "9223372036854775808.0"])
def test_a_whole_number_beyond_64_bits_with_a_sign_is_refused_by_its_value(
    tmp_path: Path, number: Any
) -> None:
    rows = "".join(f"u,b,{value}\n" for value in range(500)) + f"u,c,{number}\n"
    folder = written(tmp_path, {"log.csv": f"user,action,time\n{rows}"})
    with pytest.raises(
        DataError, match=rf"log\.csv, row 501: '{number}' in 'time' .*above 9223372036854775807"
    ):
        read_log(mapping(folder, order={"column": "time", "kind": "integer"}))


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (["1.5", "2.5", "3.25"], "integer", "no whole number.*kind: duration"),
        (
            ["2024-01-01", "2024-01-02", "2024-01-03"],
            "integer",
            "They are times: set events.order.kind: time",
        ),
        (["0:01:02", "0:01:03", "26:00:00"], "integer", "kind: duration"),
        (["one", "two", "three"], "integer", "Name the column"),
        (["2024-01-01", "2024-01-02", "2024-01-03"], "duration", "They are times"),
    ],
)
def test_an_order_of_another_kind_is_refused_with_its_kind(
    tmp_path: Path, values: list[str], kind: str, said: str
) -> None:
    rows = "".join(f"u,b,{value}\n" for value in values)
    folder = written(tmp_path, {"log.csv": f"user,action,time\n{rows}"})
    with pytest.raises(DataError, match=rf"log\.csv, row 1: '{values[0]}'.*{said}"):
        read_log(mapping(folder, order={"column": "time", "kind": kind}))


def day_log(rows: list[tuple[str, str, str, int]]) -> str:
    return "user,action,time,number\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)


def days(count: int = 400) -> list[tuple[str, str, str, int]]:
    """Events of which only the day is known, in their order."""
    return [(f"u{index % 4}", f"b{index}", f"2024-01-{1 + index // 40:02d}", index) for index in range(count)]


@pytest.mark.parametrize(
    ("arranged", "said"),
    [
        (lambda rows: rows, "can be trusted"),
        (lambda rows: rows[::-1], "newest first.*file_order: newest_first"),
        (lambda rows: random.Random(1).sample(rows, len(rows)), "cannot be trusted"),
    ],
)
def test_ties_are_told_with_what_the_files_are_worth_and_what_would_break_them(
    tmp_path: Path, arranged: Any, said: str
) -> None:
    folder = written(tmp_path, {"log.csv": day_log(arranged(days()))})
    counts, warning = told(mapping(folder))
    assert counts["tied_events"] == 400 - 4 * 10
    assert warning is not None and warning.startswith("360 of 400 events (90.0%) are equal in order (time)")
    assert pd.Series([warning]).str.contains(said)[0]
    assert "{column: [time, number], kind: [time, integer]} would break 360 of the 360" in warning
    assert told(mapping(folder, max_tie_share=0.95))[1] is None
    order = {"column": ["time", "number"], "kind": ["time", "integer"]}
    _, timelines, _ = read_log(mapping(folder, order=order))
    assert sequences(timelines) == by_pandas(
        pd.DataFrame(days(), columns=["user", "action", "time", "n"]), ["n"]
    )


def test_files_that_are_newest_first_are_read_so(tmp_path: Path) -> None:
    folder = written(tmp_path, {"log.csv": day_log(days()[::-1])})
    config = mapping(folder, order={"column": "time", "file_order": "newest_first"})
    _, timelines, _ = read_log(config)
    assert sequences(timelines) == by_pandas(
        pd.DataFrame(days(), columns=["user", "action", "time", "n"]), ["n"]
    )
    warning = told(config)[1]
    assert warning is not None and "can be trusted" in warning


def test_a_step_that_begins_anew_is_told_with_what_must_come_first(tmp_path: Path) -> None:
    visits(6).sort_values(["user", "visit", "step"]).to_csv(tmp_path / "log.csv", index=False)
    counts, warning = told(mapping(tmp_path, order={"column": "step", "kind": "integer"}))
    assert counts["tied_events"] > 100
    assert warning is not None and "{column: [visit, step], kind: [integer, integer]}" in warning


def test_ties_that_no_column_breaks_are_told_as_such(tmp_path: Path) -> None:
    rows = "".join(f"u,b{index},2024-01-01,x\n" for index in range(50))
    _, warning = told(mapping(written(tmp_path, {"log.csv": f"user,action,time,place\n{rows}"})))
    assert (
        warning is not None
        and "No other column" in warning
        and "nothing shows whether that can be trusted" in warning
    )


def test_bursts_of_nanoseconds_are_no_ties(tmp_path: Path) -> None:
    draw = random.Random(2)
    moments = [1_583_854_854_000_000_000 + number * draw.randint(50, 300) for number in range(300)]
    table = pd.DataFrame({"user": "u", "action": [f"b{n}" for n in range(300)], "at": moments})
    table["time"] = pd.to_datetime(table["at"])
    shuffled = table.sample(frac=1, random_state=0)
    shuffled[["user", "action", "time"]].to_csv(tmp_path / "log.csv", index=False)
    _, timelines, _ = read_log(mapping(tmp_path))
    by_moment = shuffled.sort_values("at", kind="stable")
    assert sequences(timelines)["u"] == by_moment["action"].tolist()
    assert told(mapping(tmp_path))[0]["tied_events"] == len(table) - table["at"].nunique()


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_nested_columns_do_not_keep_others_from_being_named(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame(days(), columns=["user", "action", "time", "number"])
    table["place"] = [{"room": "hall"}] * len(table)
    if name == "log.jsonl":
        table.to_json(tmp_path / name, orient="records", lines=True)
    else:
        table.to_parquet(tmp_path / name)
    warning = told(mapping(tmp_path))[1]
    assert warning is not None and "{column: [time, number], kind: [time, integer]}" in warning
