"""Logs that look right and are not: what gives them away, and what is said of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log
from behaviorlm.events.summary import doubts
from tests.behaviorlm.events.field.field_logs import mapping, read_facts, read_log, sequences, written

QUOTED = 'user,action,time\n"u", "a, b", "2024-01-01"\n"u", "c", "2024-01-02"\n"v", "d", "2024-01-03"\n'


def test_quotes_after_a_blank_are_not_made_part_of_names(tmp_path: Path) -> None:
    some = 'user,action,time\nu, "a",2024-01-01\nu, "b",2024-01-02\n'
    for content in (QUOTED, some):
        with pytest.raises(DataError, match=r"'action' have a blank before their quotes .*delimiter: ', '"):
            find_log(mapping(written(tmp_path, {"log.csv": content})))
    config = mapping(written(tmp_path, {"log.csv": QUOTED.replace("user,action,time", "user, action, time")}))
    with pytest.raises(DataError, match=r"did you mean ' action'\? \(3 here: .*set events\.delimiter: ', '"):
        find_log(config)
    _, timelines, quarantined = read_log(mapping(tmp_path, delimiter=", "))
    assert sequences(timelines) == {"u": ["a, b", "c"], "v": ["d"]} and not quarantined.num_rows


@pytest.mark.parametrize("nothing", [b"", b"\n", b"\xef\xbb\xbf"])
def test_parts_without_a_byte_are_passed_over_and_named(tmp_path: Path, nothing: bytes) -> None:
    some = "user,action,time\nu,a,2024-01-01\nu,b,2024-01-02\n"
    folder = written(tmp_path, {"part-0.csv": nothing, "part-1.csv": some, "part-2.csv": nothing})
    log, timelines, _ = read_log(mapping(folder))
    assert sequences(timelines) == {"u": ["a", "b"]}
    told = "\n".join(log.notes)
    assert "nothing in them" in told and "part-0" in told and "part-2" in told


def test_a_month_is_not_taken_for_a_day_of_the_year(tmp_path: Path) -> None:
    folder = written(tmp_path, {"log.csv": "user,action,time\nu,a,2024-02\nu,b,2024-03\n"})
    with pytest.raises(DataError, match="'2024-02'") as refused:
        find_log(mapping(folder))
    assert "%j" not in str(refused.value)


@pytest.mark.parametrize(
    "other", ["1,000", "+1000", "'1000", '="1000"', '"1000"', "b'1000'", "1000 ", "01000", "urn:uuid:1000"]
)
def test_one_user_as_programs_write_it_is_told(tmp_path: Path, other: str) -> None:
    table = pandas.DataFrame({"user": ["1000", other] * 3, "action": list("ababab")})
    table["time"] = [f"2024-01-0{day}" for day in range(1, 7)]
    facts = read_facts(mapping(written(tmp_path, {"log.csv": table.to_csv(index=False)})))
    if facts.users == 2:
        assert any("users differ only in" in doubt and "'1000'" in doubt for doubt in doubts(facts))
    else:
        assert other == "1000 " and any("blanks" in doubt for doubt in doubts(facts))


def test_names_garbled_before_they_were_written_are_told(tmp_path: Path) -> None:
    garbled = "café".encode().decode("cp1252")
    names = [garbled, "caf\ufffd", "café", "Ã la carte", "naïve", "Âge"]
    log = "user,action,time\n" + "".join(f"u,{name},2024-01-0{day + 1}\n" for day, name in enumerate(names))
    said = [
        doubt
        for doubt in doubts(read_facts(mapping(written(tmp_path, {"log.csv": log}))))
        if "encoding" in doubt
    ]
    assert len(said) == 1 and repr(garbled) in said[0] and repr(names[1]) in said[0]
    assert not any(name in said[0] for name in names[2:])


def table_of(rows: Sequence[tuple[str, object]]) -> str:
    return "user,action,time\n" + "".join(f"{user},x,{value}\n" for user, value in rows)


@pytest.mark.parametrize("form", ["%Y-%m-%d %I:%M:%S", "%m/%d/%Y %I:%M:%S"])
def test_a_clock_of_twelve_hours_without_am_and_pm_is_told(tmp_path: Path, form: str) -> None:
    moments = pandas.date_range("2024-01-02", periods=200, freq="71min")
    pattern = None if form.startswith("%Y") else form.replace("%I", "%H")
    for shown, is_told in ((form, True), (form.replace("%I", "%H"), False)):
        rows = [(f"u{at.minute % 4}", at.strftime(shown)) for at in moments]
        folder = written(tmp_path, {"log.csv": table_of(rows)})
        notes = find_log(mapping(folder, order={"column": "time", "time_format": pattern})).notes
        assert any("AM and PM are lost" in note for note in notes) == is_told


ANEW: dict[str, tuple[list[Iterable[int]], str, bool]] = {
    "a number of the row in each file": ([range(60)] * 4, "integer", True),
    "seconds of the day": ([[*range(0, 86_400, 3_000)] * 5], "duration", True),
    "numbers of the whole log": ([range(60), range(60, 120)], "integer", False),
    "the later file first": ([range(60, 120), range(60)], "integer", False),
    "a share of all numbers in each file": ([range(0, 120, 2), range(1, 120, 2)], "integer", False),
    "newest first": ([range(120, 0, -1)], "integer", False),
    "a bit late": ([[number ^ 3 for number in range(120)]], "integer", False),
}


@pytest.mark.parametrize("case", ANEW)
def test_an_order_that_begins_anew_without_ties_is_told(tmp_path: Path, case: str) -> None:
    files, kind, is_told = ANEW[case]
    for number, values in enumerate(files):
        rows = [(f"u{place % 7 % 3}", value) for place, value in enumerate(values)]
        written(tmp_path, {f"part-{number}.csv": table_of(rows)})
    notes = find_log(mapping(tmp_path, order={"column": "time", "kind": kind})).notes
    assert any("if it begins anew" in note and "part-" in note for note in notes) == is_told


def test_steps_of_each_user_that_begin_at_one_are_no_doubt(tmp_path: Path) -> None:
    rows = [(f"u{user}", step) for user in range(20) for step in range(1, 9)]
    folder = written(tmp_path, {"a.csv": table_of(rows[:80]), "b.csv": table_of(rows[80:])})
    assert not find_log(mapping(folder, order={"column": "time", "kind": "integer"})).notes


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"1.7041{number}E+12" for number in range(6, 10)], "time"),
        ([f"{1.7e18 + number * 1e9:.5E}" for number in range(4)], "integer"),
        ([repr(1.7e18 + number * 1e9) for number in range(4)], "integer"),
    ],
)
def test_orders_whose_digits_a_program_left_out_are_refused(
    tmp_path: Path, values: list[str], kind: str
) -> None:
    folder = written(tmp_path, {"log.csv": table_of([("u", value) for value in values])})
    with pytest.raises(
        DataError, match=r"log\.csv, row 1: .*lost digits, so that events which differ are equal"
    ):
        find_log(mapping(folder, order={"column": "time", "kind": kind}))


def test_a_double_beyond_what_doubles_tell_apart_is_no_integer_order(tmp_path: Path) -> None:
    orders = pa.array([1.7e18 + number for number in range(4)])
    table = pa.table({"user": ["u"] * 4, "action": list("abcd"), "time": orders})
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"'time' is of type double .* have lost digits"):
        find_log(mapping(tmp_path, order={"column": "time", "kind": "integer"}))


def test_doubles_as_java_writes_them_are_read(tmp_path: Path) -> None:
    rows = [("u", f"{(1_704_164_653 + number) / 1e9:.9f}E12") for number in (2, 0, 1)]
    log, timelines, _ = read_log(mapping(written(tmp_path, {"log.csv": table_of(rows)})))
    assert log.events.order.epoch_unit == "milliseconds"
    assert timelines["order"].to_pylist() == [(1_704_164_653 + number) * 1_000_000 for number in range(3)]


def test_an_hour_that_summer_time_repeats_is_told(tmp_path: Path) -> None:
    moments = pandas.date_range("2024-10-26 22:00", periods=60, freq="7min", tz="UTC").tz_convert(
        "Europe/Berlin"
    )
    order = {"column": "time", "time_zone": "Europe/Berlin"}
    for form, is_told in (("%Y-%m-%d %H:%M:%S", True), ("%Y-%m-%dT%H:%M:%S%z", False)):
        rows = [("u", at.strftime(form)) for at in moments]
        notes = find_log(mapping(written(tmp_path, {"log.csv": table_of(rows)}), order=order)).notes
        assert any("summer time repeats in Europe/Berlin" in note for note in notes) == is_told
    twice = [at for at in moments if at.hour == 2]
    written(tmp_path, {"log.csv": table_of([("u", at.strftime("%Y-%m-%d %H:%M:%S")) for at in moments])})
    assert any(
        f": {len(twice)} of 60 times" in note for note in find_log(mapping(tmp_path, order=order)).notes
    )
