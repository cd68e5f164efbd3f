"""Logs that look right and are not: what gives them away, and what is said of it."""

from pathlib import Path

import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written

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
