"""Normalization: times of all kinds, the clock, and the reason for every row that cannot be used."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.normalization import check_quarantine, events_schema, normalize
from behaviorlm.events.settling import Head, settle_order
from behaviorlm.log_files.config import EventsConfig, source_columns
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA
from behaviorlm.log_files.text import table_schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def mapping(**changes: Any) -> EventsConfig:
    keys: dict[str, Any] = {
        "dataset": "test",
        "paths": ["log.csv"],
        "user": "who",
        "behavior": "what",
        "order": {"column": "when"},
    }
    return EventsConfig(**{**keys, **changes})


def settled(config: EventsConfig, texts: list[str | None]) -> EventsConfig:
    """The mapping as it is for a log that begins with these times."""
    head = Head("log.csv", {"order": pa.array(texts, pa.string())}, pa.array(range(1, len(texts) + 1)))
    return settle_order(config, [head])[0]


def normalized(config: EventsConfig, **columns: list[str | None]) -> tuple[pa.Table, pa.Table]:
    count = len(next(iter(columns.values())))
    defaults = {"user": ["u"] * count, "behavior": ["a"] * count, "order": ["1"] * count}
    values = {**defaults, **{name.replace("__", "."): column for name, column in columns.items()}}
    raw = pa.table(
        [*(values[role] for role in source_columns(config)), list(range(1, count + 1))],
        schema=table_schema(config),
    )
    return normalize(raw, QUARANTINE_SCHEMA.empty_table(), 3, "log.csv", config)


def orders(texts: list[str | None], **order: Any) -> list[int]:
    config = settled(mapping(order={"column": "when", **order}), texts)
    events, quarantine = normalized(config, order=texts)
    assert quarantine.to_pylist() == []
    return events["order"].to_pylist()


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=200, deadline=None)
@given(moments=st.lists(moments, min_size=1, max_size=20), zone=zones, separator=st.sampled_from("T "))
def test_iso_times_with_a_zone_are_the_moments_that_python_reads(
    moments: list[datetime], zone: timezone, separator: str
) -> None:
    aware = [moment.replace(tzinfo=zone) for moment in moments]
    texts: list[str | None] = [moment.isoformat(separator) for moment in aware]
    assert orders(texts) == [microseconds(moment) for moment in aware]


@settings(max_examples=100, deadline=None)
@given(moments=st.lists(moments, min_size=1, max_size=20))
def test_times_without_a_zone_count_as_utc(moments: list[datetime]) -> None:
    texts: list[str | None] = [moment.isoformat() for moment in moments]
    assert orders(texts) == [microseconds(moment.replace(tzinfo=UTC)) for moment in moments]


@settings(max_examples=100, deadline=None)
@given(moments=st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2037, 1, 1)), min_size=1, max_size=20))
def test_times_without_a_zone_are_in_the_configured_zone(moments: list[datetime]) -> None:
    zone = ZoneInfo("Europe/Prague")
    # Local times that daylight saving skips have no moment of their own: Python moves them.
    real = [
        moment.replace(tzinfo=zone)
        for moment in moments
        if moment.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment
    ]
    texts: list[str | None] = [moment.replace(tzinfo=None).isoformat() for moment in real]
    if texts:
        assert orders(texts, time_zone="Europe/Prague") == [microseconds(moment) for moment in real]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", "2024-05-31T00:00:00+00:00"),
        ("2024/05/31 14:05", "2024-05-31T14:05:00+00:00"),
        (" 2024-05-31T14:05:09,25Z ", "2024-05-31T14:05:09.250000+00:00"),
        ("2024-05-31 14:05:09.123456789 UTC", "2024-05-31T14:05:09.123456+00:00"),
        ("2024-05-31T14:05:09+0530", "2024-05-31T08:35:09+00:00"),
        ("2024-05-31T14:05:09-03", "2024-05-31T17:05:09+00:00"),
        ("2024-02-29T00:00:00z", "2024-02-29T00:00:00+00:00"),
        ("1717164309", "2024-05-31T14:05:09+00:00"),
        ("1717164309.5", "2024-05-31T14:05:09.500000+00:00"),
        ("1717164309500", "2024-05-31T14:05:09.500000+00:00"),
        ("1717164309500000", "2024-05-31T14:05:09.500000+00:00"),
        ("1717164309500000999", "2024-05-31T14:05:09.500000+00:00"),
    ],
)
def test_each_known_way_to_write_a_time_is_read(text: str, moment: str) -> None:
    assert orders([text]) == [microseconds(datetime.fromisoformat(moment))]


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29T00:00:00Z",
        "2024-13-01",
        "2024-00-10",
        "2024-05-00",
        "2024-05-31T24:00:00Z",
        "2024-05-31T14:60:00Z",
        "2024-05-31T14:05:60Z",
        "2024-05-31T14:05:09+25:00",
        "31.05.2024 14:05",
        "20240531",
        "12345678901",
        "9999999999999999999",
        "yesterday",
        "nan",
        "1.7e9",
    ],
)
def test_a_time_that_cannot_be_read_goes_to_the_quarantine_with_its_text(text: str) -> None:
    events, quarantine = normalized(mapping(), order=[text, "2024-05-31T14:05:09Z"])
    assert events.num_rows == 1
    assert quarantine.to_pylist() == [
        {"file": "log.csv", "row": 1, "reason": "unreadable time", "value": text, "behavior": "a"}
    ]


def test_formats_mixed_within_a_log_are_read_row_by_row_alike_in_any_batch() -> None:
    texts = [
        "2024-05-31T14:05:09Z",
        "1717164309",
        "1717164309.000",
        "2024-05-31 16:05:09+02:00",
        "2024/05/31 14:05:09Z",
    ]
    assert orders(list(texts)) == [1717164309000000] * 5
    assert [orders([text])[0] for text in texts] == [1717164309000000] * 5


def test_numbers_of_two_units_are_refused_with_a_row_of_each() -> None:
    with pytest.raises(
        DataError, match=r"row 1: '1717164309'.*seconds; .*row 2: '1717164309000'.*milliseconds"
    ):
        orders(["1717164309", "1717164309000"])


def test_zoned_and_naive_times_mixed_are_refused_with_the_remedy_unless_a_zone_is_set() -> None:
    texts: list[str | None] = ["2024-05-31T14:05:09Z", "2024-05-31T14:05:09"]
    with pytest.raises(DataError, match=r"log\.csv.*row 1.*row 2.*set events\.order\.time_zone"):
        orders(texts)
    assert orders(texts, time_zone="America/New_York") == [
        1717164309000000,
        1717164309000000 + 4 * 3600 * 1_000_000,
    ]


def test_the_first_of_a_doubled_hour_is_meant_and_a_skipped_hour_does_not_fail() -> None:
    zone = "Europe/Prague"
    doubled, before_skip, skipped, after_skip = orders(
        ["2024-10-27T02:30:00", "2024-03-31T01:59:59", "2024-03-31T02:30:00", "2024-03-31T03:00:00"],
        time_zone=zone,
    )
    assert doubled == microseconds(datetime(2024, 10, 27, 0, 30, tzinfo=UTC))
    assert before_skip < skipped <= after_skip == microseconds(datetime(2024, 3, 31, 1, tzinfo=UTC))


def test_epoch_numbers_near_zero_need_their_unit_said() -> None:
    assert orders(["0", "-5", "7.25"], epoch_unit="seconds") == [0, -5_000_000, 7_250_000]
    assert orders(["1500", "-0.5"], epoch_unit="milliseconds") == [1_500_000, -500]
    assert orders(["7"], epoch_unit="microseconds") == [7]
    assert normalized(mapping(), order=["5"])[1]["reason"].to_pylist() == ["unreadable time"]


def test_a_strptime_pattern_reads_days_first() -> None:
    config = mapping(order={"column": "when", "time_format": "%d/%m/%Y %H:%M:%S", "time_zone": "UTC"})
    events, quarantine = normalized(config, order=["31/05/2024 14:05:09", "2024-05-31T14:05:09"])
    assert events["order"].to_pylist() == [1717164309000000]
    assert quarantine["reason"].to_pylist() == ["unreadable time"]


def test_the_clock_is_the_one_on_the_wall() -> None:
    texts: list[str | None] = ["2024-05-31T23:30:00+02:00", "2024-05-31T21:30:00Z", "1717191000"]
    as_written, _ = normalized(settled(mapping(clock=["weekday", "hour"]), texts), order=texts)
    assert as_written["before.weekday"].to_pylist() == ["Fri"] * 3
    assert as_written["before.hour"].to_pylist() == ["23", "21", "21"]
    tokyo = mapping(clock=["hour", "weekday"], order={"column": "when", "time_zone": "Asia/Tokyo"})
    in_tokyo, _ = normalized(settled(tokyo, texts), order=texts)
    assert in_tokyo["before.weekday"].to_pylist() == ["Sat"] * 3
    assert in_tokyo["before.hour"].to_pylist() == ["06"] * 3
    assert [name for name in in_tokyo.column_names if name.startswith("before.")] == [
        "before.hour",
        "before.weekday",
    ]


@settings(max_examples=100, deadline=None)
@given(moment=moments)
def test_weekday_and_hour_are_those_of_pythons_calendar(moment: datetime) -> None:
    events, _ = normalized(mapping(clock=["weekday", "hour"]), order=[moment.isoformat()])
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    assert events["before.weekday"].to_pylist() == [days[moment.weekday()]]
    assert events["before.hour"].to_pylist() == [f"{moment.hour:02d}"]


def test_whole_numbers_order_and_others_are_quarantined() -> None:
    config = mapping(order={"column": "when", "kind": "integer"})
    texts = [
        "3",
        "-7",
        "+5",
        "4.0",
        " 12 ",
        "4.5",
        "x",
        None,
        "1e3",
        "9223372036854775807",
        "99999999999999999999",
    ]
    events, quarantine = normalized(config, order=texts)
    assert events["order"].to_pylist() == [3, -7, 5, 4, 12, 1000, 9223372036854775807]
    assert events["is_zoned"].null_count == 7
    assert [(row["row"], row["reason"]) for row in quarantine.sort_by("row").to_pylist()] == [
        (6, "unreadable order"),
        (7, "unreadable order"),
        (8, "empty order"),
        (11, "unreadable order"),
    ]


def test_every_unusable_row_is_quarantined_once_with_its_first_reason() -> None:
    config = mapping(order={"column": "when", "kind": "integer"}, group="team", max_behavior_characters=5)
    events, quarantine = normalized(
        config,
        user=[None, "", "u", "u", "u", "u", "u", " \t"],
        behavior=["a", "a", None, "\u200b\n", "sixsix", "five!", "a", None],
        order=["1", "1", "1", "1", "x", "1", "1", None],
        group=["g", "g", "g", "g", "g", "g", None, "g"],
    )
    assert events["behavior"].to_pylist() == ["five!"]
    assert events["row"].to_pylist() == [6]
    assert events["file"].to_pylist() == [3]
    assert events.schema == events_schema(config)
    assert quarantine.schema == QUARANTINE_SCHEMA
    assert {row["row"]: row["reason"] for row in quarantine.to_pylist()} == {
        1: "empty user",
        2: "empty user",
        3: "empty behavior",
        4: "empty behavior",
        5: "over-long behavior",
        7: "empty group",
        8: "empty user",
    }
    assert quarantine.num_rows == 7


@pytest.mark.parametrize(
    "name",
    [
        "<|im_end|>",
        "</s>",
        "../../etc/passwd",
        "C:\\x",
        "two\nlines",
        "bell\x07",
        "👩‍👩‍👧",
        "مرحبا",
        "\u202eabc",
        "a" * 120,
    ],
)
def test_a_behavior_of_any_text_is_kept_as_it_is(name: str) -> None:
    events, quarantine = normalized(mapping(order={"column": "when", "kind": "integer"}), behavior=[name])
    assert events["behavior"].to_pylist() == [name]
    assert quarantine.num_rows == 0


def test_a_long_quarantined_value_is_shortened() -> None:
    _, quarantine = normalized(mapping(order={"column": "when", "kind": "integer"}), behavior=["y\n" * 5000])
    assert len(quarantine["value"][0].as_py()) == 200


def test_context_is_trimmed_cut_with_an_ellipsis_and_null_where_nothing_is_seen() -> None:
    config = mapping(
        order={"column": "when", "kind": "integer"},
        context_before=["place"],
        context_after=["tool"],
        max_context_characters=6,
    )
    events, quarantine = normalized(
        config, before__place=[" home ", "abcdefg", "abcdef", None], after__tool=["", "x", "\n", "y"]
    )
    assert events["before.place"].to_pylist() == ["home", "abcde…", "abcdef", None]
    assert events["after.tool"].to_pylist() == [None, "x", None, "y"]
    assert quarantine.num_rows == 0


def test_the_group_is_the_user_unless_a_column_is_named() -> None:
    integer = {"column": "when", "kind": "integer"}
    assert normalized(mapping(order=integer), user=["u1", "u2"])[0]["group"].to_pylist() == ["u1", "u2"]
    events, _ = normalized(mapping(order=integer, group="team"), user=["u1", "u2"], group=["g", "g"])
    assert events["group"].to_pylist() == ["g", "g"]


def test_an_empty_batch_has_the_full_schema() -> None:
    config = mapping(clock=["hour"], context_before=["place"], split_column="part")
    events, quarantine = normalize(
        table_schema(config).empty_table(), QUARANTINE_SCHEMA.empty_table(), 0, "log.csv", config
    )
    assert (events.num_rows, quarantine.num_rows) == (0, 0)
    assert events.schema == events_schema(config)


def test_what_was_quarantined_while_reading_is_passed_on() -> None:
    config = mapping()
    earlier = pa.table([["log.csv"], [9], ["malformed row"], ["x"], [None]], schema=QUARANTINE_SCHEMA)
    _, quarantine = normalize(table_schema(config).empty_table(), earlier, 0, "log.csv", config)
    assert quarantine.equals(earlier)


def test_too_large_a_quarantine_fails_with_the_reasons() -> None:
    check_quarantine({"empty user": 1}, 99, mapping())
    check_quarantine({}, 0, mapping())
    with pytest.raises(
        DataError,
        match=r"3 of 102 rows cannot be used \(2\.94%; allowed are 1\.00%.*share\): empty user: 2, malformed row: 1",
    ):
        check_quarantine({"malformed row": 1, "empty user": 2}, 99, mapping())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_before": ["what"]}, "cannot be context"),
        ({"context_after": ["what"]}, "cannot be context"),
        ({"context_before": ["place"], "context_after": ["place"]}, "not both"),
        ({"context_before": ["hour"], "clock": ["hour"]}, "more than once"),
        ({"order": {"column": "when", "kind": "integer"}, "clock": ["hour"]}, "clock needs order.kind: time"),
        ({"order": {"column": "when", "time_zone": "Mars/Olympus"}}, "not a time zone known here"),
        ({"order": {"column": "when", "time_format": "%H:%M:%S %z"}}, "not tell the year and the month"),
        ({"order": {"column": "when", "kind": "integer", "time_zone": "UTC"}}, "only with kind: time"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        mapping(**changes)


def test_several_wrong_keys_of_the_mapping_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(
            EventsConfig,
            data={
                "dataset": "x",
                "path": ["a"],
                "user": "",
                "behavior": "b",
                "order": {"column": "c", "kind": "date"},
            },
        )
    for key in ("path:", "paths:", "user:", "order.kind:"):
        assert key in str(caught.value)
