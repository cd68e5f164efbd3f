"""Logs that look right and are not: what gives them away, and what is said of it."""

from pathlib import Path

import pandas
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
