"""JSON as people have it: nested keys, arrays, lists of events, files that lack a key."""

import json
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.config import validate_settings
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.log import find_log
from behaviorlm.log_files.config import EventsConfig
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written

NESTED: dict[str, Any] = {"user": "p.id", "behavior": "event", "order": {"column": "p.time"}}


def lines(*rows: Any) -> str:
    """An object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(
    folder: Path, content: str | bytes, name: str = "log.jsonl", **changes: Any
) -> tuple[dict[str, list[str]], list[tuple[str, int]]]:
    """(each user's behaviors, (reason, row) of what cannot be used)."""
    _, timelines, quarantined = read_log(mapping(written(folder, {name: content}), **changes))
    return sequences(timelines), [(row["reason"], row["row"]) for row in quarantined.to_pylist()]


def event(action: str, day: int, user: str | None = "u") -> dict[str, Any]:
    """An event with its keys under p."""
    return {"event": action, "p": {"id": user, "time": f"2024-01-{day:02d}"}}


def test_keys_inside_of_objects_are_read_by_dots(tmp_path: Path) -> None:
    content = lines(
        event("b", 2), {"event": "z"}, event("a", 1), {"event": "y", "p": None}, {"event": "x", "p": [1]}
    )
    found = ({"u": ["a", "b"]}, [("empty user", 2), ("empty user", 4), ("empty user", 5)])
    assert read(tmp_path, content, **NESTED) == found


def test_a_key_with_a_dot_in_it_is_read_as_it_is_and_both_ways_at_once_are_set_aside(tmp_path: Path) -> None:
    literal = {"event": "b", "p.id": "u", "p.time": "2024-01-02"}
    assert read(tmp_path, lines(event("a", 1), literal), **NESTED) == ({"u": ["a", "b"]}, [])
    both = {**event("c", 3), "p.id": "v"}
    found = read(tmp_path, lines(event("a", 1), literal, both), **NESTED)
    assert found == ({"u": ["a", "b"]}, [("malformed row", 3)])


@pytest.mark.parametrize("is_array", [False, True])
def test_a_key_that_stands_twice_with_different_values_costs_its_row(tmp_path: Path, is_array: bool) -> None:
    rows = [
        '{"p": {"id": "u", "time": "2024-01-01"}, "event": "a", "x": 1, "x": 2}',
        '{"p": {"id": "u", "time": "2024-01-02"}, "event": "b", "event": "c"}',
        '{"p": {"id": "u", "id": "v", "time": "2024-01-03"}, "event": "d"}',
        '{"p": {"id": "v", "time": "2024-01-04"}, "p": {"id": "u", "time": "2024-01-04"}, "event": "e"}',
        '{"p": {"id": "u", "id": "u", "time": "2024-01-05"}, "event": "f", "event": "f"}',
    ]
    content = f"[{','.join(rows)}]" if is_array else "\n".join(rows)
    found = read(tmp_path, content, **NESTED)
    assert found == ({"u": ["a", "f"]}, [("malformed row", 2), ("malformed row", 3), ("malformed row", 4)])


def test_a_key_that_lies_deeper_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'id' \(events\.user\).*did you mean 'p\.id'\?"):
        find_log(mapping(written(tmp_path, {"log.jsonl": lines(event("a", 1))}), **{**NESTED, "user": "id"}))


ROWS = [event("a", 1), event("b", 2), event("c", 3, "v")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff\n" + json.dumps(ROWS),
        "".join(json.dumps(row, indent=2) + "\n" for row in ROWS),
        "".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps([row]) + "\n" for row in ROWS),
        json.dumps(ROWS[:2]) + "\n\n[]" + json.dumps(ROWS[2:]),
        lines(*ROWS).replace("\n", "\r\n"),
        lines(*ROWS).replace("\n", "\n\n"),
        lines(*ROWS).encode("utf-16"),
    ],
)
@pytest.mark.parametrize("name", ["log.json", "log.jsonl"])
def test_arrays_and_objects_over_several_lines(tmp_path: Path, content: str | bytes, name: str) -> None:
    assert read(tmp_path, content, name, **NESTED) == ({"u": ["a", "b"], "v": ["c"]}, [])


def test_what_is_no_object_in_an_array_costs_itself_only(tmp_path: Path) -> None:
    found = read(
        tmp_path, json.dumps([event("a", 1), 7, event("b", 2), "\ud800", event("\ud800", 3)]), **NESTED
    )
    assert found == ({"u": ["a", "b"]}, [("malformed row", 2), ("malformed row", 4), ("not UTF-8", 5)])


@pytest.mark.parametrize("end", ["", "}", '{"event": "c"', "{,"])
def test_an_array_without_an_end_is_refused_with_the_place(tmp_path: Path, end: str) -> None:
    content = json.dumps([event("a", 1), event("b", 2)])[:-1] + "," * bool(end) + end
    with pytest.raises(DataError, match=r"log\.jsonl: not readable as JSON after object 2"):
        read(tmp_path, content, **NESTED)


def test_an_array_of_many_blocks(tmp_path: Path) -> None:
    rows = [{"user": f"u{i % 7}", "action": f"a{i}", "time": i, "text": "x" * 300} for i in range(40_000)]
    order = {"column": "time", "kind": "integer"}
    found, quarantined = read(tmp_path, json.dumps(rows), order=order)
    assert not quarantined
    assert found["u3"] == [f"a{i}" for i in range(3, 40_000, 7)]


def test_a_file_in_which_nobody_has_the_user_costs_its_rows_where_others_have_it(tmp_path: Path) -> None:
    written(
        tmp_path, {"03.jsonl": lines({"event": "x", "p": {"time": "2024-01-01"}}), "09.jsonl": lines(*ROWS)}
    )
    log, timelines, quarantined = read_log(mapping(tmp_path, **NESTED))
    assert sequences(timelines) == {"u": ["a", "b"], "v": ["c"]}
    assert [(row["reason"], Path(row["file"]).name) for row in quarantined.to_pylist()] == [
        ("empty user", "03.jsonl")
    ]
    assert f"no object at the beginning has 'p.id': {tmp_path}/03.jsonl" in log.notes
    (tmp_path / "09.jsonl").unlink()
    with pytest.raises(DataError, match=r"03\.jsonl: no column 'p\.id'"):
        find_log(mapping(tmp_path, **NESTED))


@pytest.mark.parametrize("content", [lines(*ROWS), json.dumps(ROWS)])
def test_utf16_without_a_mark_is_refused_until_it_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"no JSON object at its beginning.*events\.encoding: utf-16-le"):
        read(tmp_path, content.encode("utf-16-le"), **NESTED)
    found = read(tmp_path, content.encode("utf-16-le"), encoding="utf-16-le", **NESTED)
    assert found == ({"u": ["a", "b"], "v": ["c"]}, [])


def test_nan_is_nothing_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    content = '{"user": 12345678901234567890, "action": 1.50, "time": "2024-01-01", "x": NaN}\n'
    _, timelines, _ = read_log(mapping(written(tmp_path, {"log.jsonl": content}), context_after=["x"]))
    assert sequences(timelines) == {"12345678901234567890": ["1.50"]}
    assert timelines["after.x"].to_pylist() == [None]


SESSIONS = lines(
    {"user": "u", "events": [{"a": "x", "t": "2024-01-02"}, {"a": "y", "t": "2024-01-01"}]},
    {"user": "v", "events": []},
    {"user": "v", "events": "none"},
    {"user": "v", "events": [{"a": "z", "t": "2024-01-03"}, {"a": "z"}]},
)


def test_each_item_of_a_list_is_an_event(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"behavior": "events.a", "order": {"column": "events.t"}, "explode": "events"}
    found = ({"u": ["y", "x"], "v": ["z"]}, [("malformed row", 3), ("empty time", 5)])
    assert read(tmp_path, SESSIONS, **keys) == found


def test_lists_side_by_side_keep_their_order_where_they_tie(tmp_path: Path) -> None:
    content = lines(
        {"user": "u", "action": ["c", "a", "b"], "step": [1, 1, 1]},
        {"user": "u", "action": ["d"], "step": [1, 2]},
    )
    keys: dict[str, Any] = {"order": {"column": "step", "kind": "integer"}, "explode": ["action", "step"]}
    assert read(tmp_path, content, **keys) == ({"u": ["c", "a", "b"]}, [("malformed row", 4)])


def test_a_response_around_the_events_is_taken_apart(tmp_path: Path) -> None:
    content = json.dumps({"data": ROWS, "next": None}, indent=1)
    keys = {
        "user": "data.p.id",
        "behavior": "data.event",
        "order": {"column": "data.p.time"},
        "explode": "data",
    }
    assert read(tmp_path, content, "log.json", **keys) == ({"u": ["a", "b"], "v": ["c"]}, [])


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_wide_rows_hold_several_events(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [
        {"user": "u", "opened": "2024-01-01", "paid": "2024-01-02", "last": "close", "last_at": "2024-01-03"},
        {"user": "u", "opened": "2024-01-05", "paid": None, "last": None, "last_at": None},
        {"user": "v", "opened": None, "paid": "2024-01-02", "last": "close", "last_at": None},
    ]
    kinds = [
        {"name": "open", "order": "opened"},
        {"name": "pay", "order": "paid"},
        {"behavior": "last", "order": "last_at"},
    ]
    if name == "log.csv":
        content = "\n".join(
            ",".join(value or "" for value in row) for row in [list(rows[0]), *(r.values() for r in rows)]
        )
    else:
        content = lines(*rows)
    found = ({"u": ["open", "pay", "close", "open"], "v": ["pay"]}, [("empty time", 9)])
    assert read(tmp_path, content, name, explode=kinds) == found
    with pytest.raises(DataError, match=r"no column 'done' \(events\.explode\.0\.order\)"):
        find_log(mapping(tmp_path, explode=[{"name": "open", "order": "done"}]))


@pytest.mark.parametrize(
    ("explode", "said"),
    [
        (7, "a key of a list, several such keys, or a list of {order, behavior}"),
        (["items", {"order": "t", "name": "x"}], "a key of a list, several such keys, or"),
        ([], "a key of a list, several such keys, or"),
        ([{"order": "t", "name": "x"}, {"order": "t"}], "item 1: .*set either behavior"),
        ([{"order": "t", "names": "x"}], "item 0: names: Extra"),
    ],
)
def test_a_wrong_explode_is_refused_in_one_sentence(tmp_path: Path, explode: Any, said: str) -> None:
    values = mapping(tmp_path).model_dump() | {"explode": explode}
    with pytest.raises(ConfigError, match=said) as refused:
        validate_settings(EventsConfig, values, "the mapping")
    assert "1 problem(s)" in str(refused.value)


@pytest.mark.parametrize("name", ["a", "events.a"])
@pytest.mark.parametrize("is_pretty", [False, True])
def test_events_in_a_list_are_refused_with_the_list(tmp_path: Path, name: str, is_pretty: bool) -> None:
    row = {"user": "u", "events": [{"a": "x", "t": "2024-01-01"}, {"a": "y", "t": "2024-01-02"}]}
    folder = written(tmp_path, {"log.json": json.dumps(row, indent=2 if is_pretty else None)})
    with pytest.raises(
        DataError, match=r"'events' have it.*events\.explode: events, and name it 'events\.a'"
    ):
        find_log(mapping(folder, behavior=name, order={"column": "events.t"}))
    keys: dict[str, Any] = {"behavior": "events.a", "order": {"column": "events.t"}, "explode": "events"}
    assert sequences(read_log(mapping(folder, **keys))[1]) == {"u": ["x", "y"]}


@pytest.mark.parametrize("is_pretty", [False, True])
def test_a_response_of_megabytes_is_one_object(tmp_path: Path, is_pretty: bool) -> None:
    items = [
        {"u": f"u{number % 3}", "a": f"a{number}", "t": number, "x": "y" * 1000} for number in range(3000)
    ]
    content = json.dumps({"data": items}, indent=1 if is_pretty else None)
    assert len(content) > 2 << 20
    keys = {"user": "data.u", "behavior": "data.a", "order": {"column": "data.t", "kind": "integer"}}
    with pytest.raises(DataError, match=r"set events\.explode: data"):
        find_log(mapping(written(tmp_path, {"log.json": content}), **keys))
    found, quarantined = read(tmp_path, content, "log.json", explode="data", **keys)
    assert found == {f"u{user}": [f"a{number}" for number in range(user, 3000, 3)] for user in range(3)}
    assert quarantined == []


def test_a_list_where_a_plain_value_is_needed_says_what_to_set(tmp_path: Path) -> None:
    content = lines({"user": "u", "action": ["a"], "time": "2024-01-01"})
    quarantined = read_log(mapping(written(tmp_path, {"log.jsonl": content})))[2].to_pylist()
    assert [(row["reason"], row["row"]) for row in quarantined] == [("malformed row", 1)]
    assert "'action' is not plain but a list" in quarantined[0]["value"]
    assert "set events.explode" in quarantined[0]["value"]


@pytest.mark.parametrize("key", ["action", "no such"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match=r"log\.csv: values of CSV files are no lists"):
        find_log(mapping(written(tmp_path, {"log.csv": "user,action,time\nu,a,2024-01-01\n"}), explode=key))
