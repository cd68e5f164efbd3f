"""Logs that nobody described are read right by the mapping that is proposed for them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log, read_events
from behaviorlm.inspection.columns import look_at
from behaviorlm.inspection.proposal import Proposal, propose
from behaviorlm.inspection.sample import read_sample
from behaviorlm.log_files.config import EventsConfig
from tests.behaviorlm.inspection.shown_logs import Sequences, write_days, write_export, write_nested_json


def proposal_for(*paths: Path) -> Proposal:
    sample = read_sample([str(path) for path in paths], 10_000)
    columns = [look_at(name, values) for name, values in sample.columns.items()]
    return propose(sample, columns, [str(path) for path in paths])


def read_by(mapping: EventsConfig) -> Sequences:
    rows = []
    for events, _ in read_events(find_log(mapping)):
        rows += events.select(["user", "order", "file", "row", "behavior"]).to_pylist()
    found: Sequences = {}
    for row in sorted(rows, key=lambda row: (row["order"], row["file"], row["row"])):
        found.setdefault(row["user"], []).append(row["behavior"])
    return found


def value_of(proposal: Proposal, key: str) -> object:
    return next(choice.value for choice in proposal.events if choice.key == key)


WRITERS: dict[str, tuple[str, Callable[[Path, int], Sequences]]] = {
    "an export of 50 columns": ("Export 2023.CSV", write_export),
    "nested JSON": ("events.jsonl", write_nested_json),
    "Parquet by day": ("lake", write_days),
}


@pytest.mark.parametrize("what", WRITERS)
def test_the_proposed_mapping_reads_the_sequences_that_were_written(what: str, tmp_path: Path) -> None:
    name, write = WRITERS[what]
    written = write(tmp_path / name, 3)
    assert read_by(proposal_for(tmp_path / name).mapping) == written


def test_an_export_is_told_with_reasons_and_alternatives(tmp_path: Path) -> None:
    write_export(tmp_path / "export.csv", 1)
    proposal = proposal_for(tmp_path / "export.csv")
    assert value_of(proposal, "user") == "KundenNr"
    assert value_of(proposal, "behavior") == "Aktion"
    assert value_of(proposal, "order") == {
        "column": "Zeitpunkt",
        "kind": "time",
        "time_format": "%d.%m.%Y %H:%M",
    }
    assert value_of(proposal, "delimiter") == ";"
    user = next(choice for choice in proposal.events if choice.key == "user")
    assert "20 different ones" in user.reason
    assert (
        proposal.mapping.context_before == []
    )  # never guessed: what gives the answer away ruins every number


def test_few_bad_rows_are_allowed_for_and_many_are_not(tmp_path: Path) -> None:
    write_export(tmp_path / "export.csv", 1)
    proposal = proposal_for(tmp_path / "export.csv")
    few = proposal.with_quarantine({"unreadable time": 24}, 800)
    assert few.mapping.max_quarantine_share == 0.05
    assert proposal.with_quarantine({"unreadable time": 200}, 800) is proposal
    assert proposal.with_quarantine({"unreadable time": 8}, 800) is proposal


def written_csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_step_that_begins_anew_in_each_session_needs_the_session_before_it(tmp_path: Path) -> None:
    rows = [
        f"u{user},{visit},{step},{'abcd'[(user + visit + step) % 4]}"
        for user in range(5)
        for visit in range(1, 5)
        for step in range(1, 7)
    ]
    path = written_csv(tmp_path / "orders.csv", "user,order_number,add_to_cart_order,action", rows)
    assert value_of(proposal_for(path), "order") == {
        "column": ["order_number", "add_to_cart_order"],
        "kind": ["integer", "integer"],
    }


def test_rows_of_one_day_are_put_in_order_by_the_step_beside_it(tmp_path: Path) -> None:
    rows = [
        f"{case},2024-01-{1 + step // 5:02},{step},{'wxyz'[(case + step) % 4]}"
        for case in range(8)
        for step in range(20)
    ]
    path = written_csv(tmp_path / "log.csv", "case,day,row,activity", rows)
    assert value_of(proposal_for(path), "order") == {"column": ["day", "row"], "kind": ["time", "integer"]}


def test_an_identifier_of_nineteen_digits_is_no_time(tmp_path: Path) -> None:
    rows = [
        f"u{place % 6},{'pqrs'[place % 5 % 4]},{999_989_901_999_999_995 + 17 * 10**9 * place}"
        for place in range(200)
    ]
    path = written_csv(tmp_path / "log.csv", "member,command,message_id", rows)
    assert value_of(proposal_for(path), "order") == {"column": "message_id", "kind": "integer"}


def test_bursts_apart_by_nanoseconds_are_no_ties(tmp_path: Path) -> None:
    rows = [
        f"u{place % 4},{'pqrs'[place % 5 % 4]},2020-03-10 15:40:54.{place * 7:09}" for place in range(200)
    ]
    proposal = proposal_for(written_csv(tmp_path / "log.csv", "user,action,time", rows))
    order = next(choice for choice in proposal.events if choice.key == "order")
    assert order.value == {"column": "time", "kind": "time"}
    assert "0.0% of the events are equal" in order.reason


def test_of_day_and_month_the_reading_of_the_shorter_span_is_taken_and_the_other_told(tmp_path: Path) -> None:
    rows = [
        f"u{place % 4},{'pqrs'[place % 5 % 4]},03/{1 + place % 9:02}/2024 {place % 24:02}:00"
        for place in range(200)
    ]
    proposal = proposal_for(written_csv(tmp_path / "log.csv", "user,action,time", rows))
    order = next(choice for choice in proposal.events if choice.key == "order")
    assert order.value["time_format"] == "%m/%d/%Y %H:%M"
    assert any("%d/%m/%Y" in other for other in order.others)
    assert "CHECK" in order.reason


def test_a_group_that_holds_whole_users_and_given_labels_are_proposed(tmp_path: Path) -> None:
    rows = [
        f"h{user // 3},p{user},{'pqrs'[(step + user) % 4]},{step},{['train', 'valid', 'test'][(step > 7) + (step > 8)]}"
        for user in range(30)
        for step in range(10)
    ]
    proposal = proposal_for(written_csv(tmp_path / "log.csv", "household,person,action,step,part", rows))
    mapping = proposal.mapping
    assert (mapping.user, mapping.group, mapping.split_column) == ("person", "household", "part")
    assert proposal.split_config.by == "column"


def test_a_log_without_an_order_is_refused_with_what_is_there(tmp_path: Path) -> None:
    rows = [f"u{place % 6},{'pqrs'[place % 4]}" for place in range(60)]
    with pytest.raises(DataError, match=r"no column can be the order .*user \(text, 6 different\), action"):
        proposal_for(written_csv(tmp_path / "log.csv", "user,action", rows))


def test_other_files_in_the_folder_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [f"u{place % 6},{'pqrs'[place % 5 % 4]},{place}" for place in range(60)]
    log = written_csv(tmp_path / "log.csv", "user,action,step", rows)
    written_csv(tmp_path / "products.csv", "sku,price", [f"a{place},{place}.5" for place in range(500)])
    (tmp_path / "notes.txt").write_text("what we know\n" * 50, encoding="utf-8")
    sample = read_sample([str(tmp_path)], 1000)
    assert sample.paths == (str(log),)
    assert any("products.csv" in note for note in sample.notes)
    assert any("notes.txt" in note for note in sample.notes)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_response_of_megabytes_is_a_list_of_events(tmp_path: Path, indent: int | None) -> None:
    items = [
        {"user": f"u{number % 3}", "action": f"a{number % 7}", "time": number, "x": "y" * 1000}
        for number in range(3000)
    ]
    (tmp_path / "log.json").write_text(json.dumps({"data": items}, indent=indent), encoding="utf-8")
    sample = read_sample([str(tmp_path)], 100_000)
    assert [(choice.key, choice.value) for choice in sample.choices] == [("explode", "data")]
    assert sample.rows == 3000 and set(sample.columns) == {"data.user", "data.action", "data.time", "data.x"}
