"""What a caller hands over becomes events as the log's reader makes them; what cannot be used is told."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pandas
import polars
import pyarrow as pa
import pytest

from behaviorlm.errors import DataError
from behaviorlm.predictor.artifact import EventMapping
from behaviorlm.predictor.histories import History, read_histories
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import EVENTS, history

MAPPING = EventMapping.model_validate(EVENTS.model_dump(exclude={"paths"}))


def read(events: Any = None, context: dict[str, Any] | None = None, at: Any = None, **keys: Any) -> History:
    return read_histories([Request(events, context, at)], mapping(**keys))[0]


def mapping(**keys: Any) -> EventMapping:
    data = MAPPING.model_dump()
    order = data["order"] | keys.pop("order", {})
    return EventMapping.model_validate(data | {"order": order} | keys)


def behaviors(found: History) -> list[str]:
    names: list[str] = found.events["behavior"].to_pylist()
    return names


EVENT = {"time": "2024-03-01T10:00:00Z", "behavior": " lamp on ", "room": "hall", "result": ""}


def test_values_are_trimmed_cut_and_dated_as_in_a_log() -> None:
    found = read([EVENT], {"room": "x" * 100}, "2024-03-02T10:00:00Z")
    assert found.events.to_pylist() == [
        {"behavior": "lamp on", "before.room": "hall", "before.weekday": "Fri", "after.result": None}
    ]
    assert found.now.to_pylist() == [{"before.room": "x" * 63 + "…", "before.weekday": "Sat"}]
    assert found.warnings == ()


def test_events_out_of_order_are_sorted_and_told_ties_as_they_stand() -> None:
    events = history(4)
    shuffled = [events[2], events[0], events[3], events[1]]
    tied = [dict(events[0], behavior=name) for name in ("b", "a", "c")]
    found = read(shuffled, {"room": None}, "2024-03-09T00:00:00Z")
    assert behaviors(found) == [event["behavior"] for event in events]
    assert found.given.tolist() == [1, 3, 0, 2]
    assert found.warnings == ("the events were not in order of time; they were sorted",)
    assert behaviors(read(tied)) == ["b", "a", "c"]


def test_events_later_than_the_moment_are_left_out_and_told_those_at_it_are_not() -> None:
    found = read(history(5), {"room": None}, "2024-03-01T02:15:00Z")
    assert found.size == 3
    assert found.warnings == ("2 of its events left out: later than `at`",)


def test_unusable_events_are_left_out_with_a_reason() -> None:
    events = [EVENT, {**EVENT, "behavior": None}, {**EVENT, "time": "soon"}, {**EVENT, "behavior": "x" * 121}]
    found = read(events, {"room": "a"}, "2024-03-02T00:00:00Z")
    assert found.given.tolist() == [0]
    assert set(found.warnings) == {
        "1 of its events left out: empty behavior",
        "1 of its events left out: unreadable time",
        "1 of its events left out: over-long behavior",
    }


def test_without_any_time_the_order_is_that_of_the_list_even_where_duplicates_are_dropped() -> None:
    events = [{"behavior": name, "room": "a"} for name in ("b", "a", "a", "b")]
    found = read(events, {"room": "a"}, exact_duplicates="drop")
    assert behaviors(found) == ["b", "a", "a", "b"]
    assert found.events["before.weekday"].to_pylist() == [None] * 4
    assert [text for text in found.warnings if "no event has the column 'time'" in text]
    collapsed = read(events, {"room": "a"}, collapse_repeats=True)
    assert behaviors(collapsed) == ["b", "a", "b"] and collapsed.given.tolist() == [0, 1, 3]
    assert [
        text for text in collapsed.warnings if text.startswith("1 of its events left out as preparation does")
    ]


def test_exact_duplicates_are_dropped_where_preparation_drops_them() -> None:
    assert behaviors(read([EVENT, EVENT], exact_duplicates="drop")) == ["lamp on"]
    assert behaviors(read([EVENT, EVENT])) == ["lamp on"] * 2


def test_unknown_columns_and_context_are_told_and_not_used() -> None:
    found = read([{**EVENT, "colour": "red"}], {"color": "red"}, "2024-03-02T00:00:00Z")
    assert found.now["before.room"].to_pylist() == [None]
    assert found.warnings == (
        "columns of the history that the log did not have were not used: 'colour'",
        "context that the log did not have was not used: 'color'; known: 'room'",
        "context that was not given is unknown to the predictor: 'room'",
    )


@pytest.mark.parametrize(
    ("moment", "unit"),
    [
        (datetime(2024, 3, 1, 9, tzinfo=UTC), "seconds"),
        (datetime(2024, 3, 1, 10, tzinfo=timezone(timedelta(hours=1))), "auto"),
        ("2024-03-01T09:00:00Z", "auto"),
        (1709283600, "seconds"),
        (1709283600000.0, "milliseconds"),
        ("1709283600", "seconds"),
    ],
)
def test_moments_in_every_form_are_the_same(moment: Any, unit: str) -> None:
    order = {"epoch_unit": unit}
    found = read([{**EVENT, "time": moment}], {"room": None}, moment, clock=["weekday", "hour"], order=order)
    assert found.warnings == ()
    hour = "10" if isinstance(moment, datetime) and moment.utcoffset() else "09"
    assert found.now.to_pylist() == [{"before.room": None, "before.weekday": "Fri", "before.hour": hour}]
    assert found.events["before.hour"].to_pylist() == [hour]


def test_a_pattern_of_times_takes_datetimes_in_the_logs_zone() -> None:
    order = {"time_format": "%d/%m/%Y %H:%M:%S", "time_zone": "Europe/Prague"}
    moment = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
    found = read(
        [{**EVENT, "time": moment}], {"room": None}, "02/03/2024 00:30:00", order=order, clock=["hour"]
    )
    assert found.events["before.hour"].to_pylist() == ["00"] == found.now["before.hour"].to_pylist()


def test_an_integer_order_needs_no_time() -> None:
    order = {"kind": "integer"}
    events = [{**EVENT, "time": number, "behavior": str(number)} for number in (3, 1, 2, 9)]
    assert behaviors(read(events, {"room": None}, 3, order=order, clock=[])) == ["1", "2", "3"]
    with pytest.raises(DataError, match="at: 'noon' cannot be read as integer"):
        read(events, None, "noon", order=order, clock=[])


def test_every_kind_of_table_reads_as_a_list_of_dicts() -> None:
    events = [dict(event, time=datetime.fromisoformat(event["time"])) for event in history(5)]
    expected = read(events, {"room": None}, "2024-03-09T00:00:00Z")
    table = pa.Table.from_pylist(events)
    nanoseconds = pandas.DataFrame(events).astype({"time": "datetime64[ns, UTC]"})
    for form in (
        table,
        table.to_batches()[0],
        pandas.DataFrame(events),
        nanoseconds,
        polars.DataFrame(events),
    ):
        found = read(form, {"room": None}, "2024-03-09T00:00:00Z")
        assert found.events.equals(expected.events) and found.warnings == expected.warnings == ()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("lamp on"), "must be a list of dicts"),
        (Request([1]), "event 0 must be keys and values"),
        (Request([{"behaviour": "lamp on"}]), "has the column 'behavior'.*columns there: 'behaviour'"),
        (Request([{"behavior": ["lamp on"]}]), "event 0, 'behavior'.*no plain value"),
        (Request([], {"room": {}}), "context 'room'.*no plain value"),
        (Request([], ["room"]), "context must be keys and values"),  # type: ignore[arg-type]
        (Request([], None, "soon"), "at: 'soon' cannot be read as time"),
        (Request([], earlier_events=-1), "earlier_events must be"),
        (Request([EVENT], None, "2024-03-02T10:00:00"), "some times of its history or `at` have a zone"),
    ],
)
def test_what_cannot_be_read_is_refused_naming_the_request(request_: Request, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s)request 1.*{said}"):
        read_histories([Request([]), request_], MAPPING)


def test_requests_of_which_each_is_sound_need_not_agree_on_zones() -> None:
    naive = [dict(EVENT, time="2024-03-01T10:00:00")]
    found = read_histories([Request([EVENT]), Request(naive, None, "2024-03-02"), Request([EVENT])], MAPPING)
    assert [one.size for one in found] == [1, 1, 1]
    assert {one.events["before.weekday"].to_pylist()[0] for one in found} == {"Fri"}


def test_an_order_of_several_columns_is_one_of_a_history_too() -> None:
    order = {"column": ["visit", "step"], "kind": "integer"}
    events = [
        {**EVENT, "visit": visit, "step": step, "behavior": f"{visit}{step}"}
        for visit, step in [(2, 1), (1, 2), (1, 1)]
    ]
    assert behaviors(read(events, {"room": None}, 3, order=order, clock=[])) == ["11", "12", "21"]


def test_histories_that_do_not_cross_sessions_are_the_last_session() -> None:
    events = [
        {**EVENT, "time": f"2024-03-01T0{place}:00:00Z", "visit": visit, "behavior": str(place)}
        for place, visit in enumerate("aabba")
    ]
    found = read(events, {"room": None}, None, session="visit", histories_cross_sessions=False)
    assert behaviors(found) == ["2", "3"]
    assert "3 of its events left out: of an earlier session" in found.warnings
    assert behaviors(read(events, {"room": None}, None, session="visit")) == ["0", "1", "4", "2", "3"]


def test_epoch_numbers_and_datetimes_are_read_by_the_unit_that_was_settled() -> None:
    events = [
        {**EVENT, "time": moment, "behavior": str(moment)}
        for moment in (1_709_280_000_500, 1_709_280_000_000)
    ]
    order = {"epoch_unit": "milliseconds"}
    found = read(events, {"room": None}, datetime(2024, 3, 1, 9, tzinfo=UTC), order=order, clock=["hour"])
    assert behaviors(found) == ["1709280000000", "1709280000500"]
    assert found.now["before.hour"].to_pylist() == ["09"]
