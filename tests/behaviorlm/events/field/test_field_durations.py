"""Durations as an order: hh:mm:ss in all forms, and two numbers that could be two things."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm.errors import DataError
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written


def seconds_of(text: str) -> Decimal:
    """A duration, read by hand."""
    sign = -1 if text.startswith("-") else 1
    days, _, clock = text.lstrip("-").rpartition(" ")
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    whole = int(days.split()[0]) * 86400 if days else 0
    return sign * (whole + int(hours) * 3600 + int(minutes) * 60 + Decimal(seconds))


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from(["", "-"]),
            st.sampled_from(["", "1 day ", "3 days "]),
            st.integers(0, 23),
            st.integers(0, 59),
            st.integers(0, 59),
            st.sampled_from(["", ".5", ",53", ".123456789", ".000000000000000001"]),
        ),
        min_size=1,
        max_size=12,
    ),
    more_hours=st.sampled_from([0, 30, 1000]),
)
def test_durations_order_by_how_long_they_are(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Any], more_hours: int
) -> None:
    texts = [
        f"{sign}{days}{hour + (0 if days else more_hours)}:{minute:02d}:{second:02d}{fraction}"
        for sign, days, hour, minute, second, fraction in parts
    ]
    rows = "".join(f'u,"{index}","{text}"\n' for index, text in enumerate(texts))
    folder = written(tmp_path_factory.mktemp("log"), {"log.csv": f"user,action,time\n{rows}"})
    _, timelines, quarantined = read_log(mapping(folder, order={"column": "time", "kind": "duration"}))
    assert not quarantined.num_rows
    expected = sorted(range(len(texts)), key=lambda index: (seconds_of(texts[index]), index))
    assert sequences(timelines)["u"] == [str(index) for index in expected]


def test_other_ways_to_write_durations(tmp_path: Path) -> None:
    texts = [
        "PT1H2M3.5S",
        "1:02:03",
        "12:34.5",
        "3723.25",
        "P1D",
        "1.00:00:01",
        "12:30",
        "x",
        "P2D",
        "P3D",
        "P4D",
        "P5D",
    ]
    rows = "".join(f"u,{text},{text}\n" for text in texts)
    folder = written(tmp_path, {"log.csv": f"user,action,time\n{rows}"})
    _, timelines, quarantined = read_log(mapping(folder, order={"column": "time", "kind": "duration"}))
    assert sequences(timelines)["u"] == [
        "12:34.5",
        "1:02:03",
        "3723.25",
        "PT1H2M3.5S",
        "P1D",
        "1.00:00:01",
        "P2D",
        "P3D",
        "P4D",
        "P5D",
    ]
    assert quarantined["value"].to_pylist() == ["12:30", "x"]


def test_a_day_and_a_clock_of_two_numbers_in_two_columns(tmp_path: Path) -> None:
    clocks = ["9:30", "23:05", "0:10", "12:00"]
    rows = "".join(f"u,b{place},2024-01-0{1 + place % 2},{clock}\n" for place, clock in enumerate(clocks))
    folder = written(tmp_path, {"log.csv": f"user,action,day,clock\n{rows}"})
    config = mapping(folder, order={"column": ["day", "clock"], "kind": ["time", "duration"]})
    log, timelines, quarantined = read_log(config)
    assert sequences(timelines) == {"u": ["b2", "b0", "b3", "b1"]} and not quarantined.num_rows
    assert log.notes == ("clock: 9:30 is read as hours and minutes",)


def test_durations_of_two_numbers_beside_three_are_refused_until_they_are_named(tmp_path: Path) -> None:
    rows = "".join(f"u,b,{text}\n" for text in ["59:30", "1:00:10", "58:00"])
    folder = written(tmp_path, {"log.csv": f"user,action,time\n{rows}"})
    with pytest.raises(
        DataError, match=r"row 1: '59:30' .*hours and minutes or minutes and seconds, beside .*row 2"
    ):
        read_log(mapping(folder, order={"column": "time", "kind": "duration"}))
    order = {"column": "time", "kind": "duration", "time_format": "%M:%S"}
    _, timelines, quarantined = read_log(mapping(folder, order=order))
    assert timelines["order"].to_pylist() == [3_480_000_000, 3_570_000_000]
    assert quarantined["value"].to_pylist() == ["1:00:10"]
    with pytest.raises(ValidationError, match="does not tell the year"):
        mapping(folder, order={"column": "time", "time_format": "%H:%M"})
    with pytest.raises(ValidationError, match="a duration is %H:%M or %M:%S"):
        mapping(
            folder,
            order={"column": ["a", "b"], "kind": ["time", "duration"], "time_format": [None, "%H:%M:%S"]},
        )
