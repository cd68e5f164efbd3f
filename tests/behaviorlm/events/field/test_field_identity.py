"""Users, groups and behaviors written in more than one way, or that are none: read as pandas has them."""

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.summary import doubts
from tests.behaviorlm.events.field.field_logs import mapping, read_facts, read_log, sequences, written

ACTIONS = ("open app", "search", "view item", "pay")
UUID = "9f1c2b3a-4d5e-4f60-8a7b-0c1d2e3f4a5b"


def frame(users: list[Any], seed: int = 0) -> pd.DataFrame:
    """An event for each user in the list, minutes apart."""
    random = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=len(users), freq="min")
    return pd.DataFrame(
        {
            "user": users,
            "action": random.choice(ACTIONS, len(users)),
            "time": times.strftime("%Y-%m-%dT%H:%M:%S"),
        }
    )


def by_user(whole: pd.DataFrame) -> dict[str, list[str]]:
    """The sequences that pandas finds."""
    ordered = whole.sort_values("time", kind="stable")
    return {str(user): list(rows["action"]) for user, rows in ordered.groupby("user")}


def csv(table: pd.DataFrame, **options: Any) -> str:
    return table.to_csv(index=False, **options)


def test_whole_numbers_that_one_file_has_as_floats_are_the_same_users(tmp_path: Path) -> None:
    january = frame([1001, 1002, 1003] * 4)
    february = frame([1001, 1002, None] * 4, 1).assign(time=lambda table: "2024-02" + table["time"].str[7:])
    files: dict[str, bytes | str] = {"1.csv": csv(january), "2.csv": csv(february)}
    assert "1001.0" in str(files["2.csv"])
    folder = written(tmp_path, files)
    _, timelines, quarantined = read_log(mapping(folder))
    whole = pd.concat([pd.read_csv(folder / name) for name in files]).dropna()
    assert sequences(timelines) == by_user(whole.assign(user=whole["user"].astype("int64")))
    assert quarantined["reason"].to_pylist() == ["empty user"] * 4
    facts = read_facts(mapping(folder))
    assert (facts.users, facts.respelled_users, facts.respelled["user"]) == (3, 2, {4: 8})
    assert any(
        doubt.startswith(
            "2 users written in more than one way count as one each: '1001' (a whole number with .0)"
        )
        for doubt in doubts(facts)
    )


def test_json_has_an_id_as_a_number_a_fraction_and_a_text(tmp_path: Path) -> None:
    rows = [
        {"user": user, "action": action, "time": f"2024-01-0{day + 1}"}
        for day, (user, action) in enumerate(
            [(1001, "a"), (1001.0, "b"), ("1001", "c"), ("1001.0", "d"), (7, "a")]
        )
    ]
    folder = written(tmp_path, {"log.jsonl": "\n".join(map(json.dumps, rows))})
    _, timelines, _ = read_log(mapping(folder))
    assert sequences(timelines) == {"1001": ["a", "b", "c", "d"], "7": ["a"]}


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.float64(), pa.float32(), pa.decimal128(9, 2), pa.string(), pa.int16()], ids=str
)
def test_a_parquet_column_of_any_type_names_the_users_of_a_csv_file(
    tmp_path: Path, kind: pa.DataType
) -> None:
    table, other = frame([1001, 1002, 1003] * 5), frame([1001, 1002, 1003, 1004] * 3, 1)
    users = pa.array(table["user"]).cast(pa.float64() if kind != pa.string() else pa.int64())
    columns = {name: pa.array(table[name], pa.string()) for name in ("action", "time")}
    pq.write_table(pa.table({"user": users.cast(kind), **columns}), tmp_path / "b.parquet")
    written(tmp_path, {"a.csv": csv(other)})
    _, timelines, _ = read_log(mapping(tmp_path))
    assert sequences(timelines) == by_user(pd.concat([other, table]))


def test_missing_users_in_a_column_of_floats_are_missing(tmp_path: Path) -> None:
    table = frame([1001, 1002, np.nan] * 4)
    pq.write_table(
        pa.table({name: pa.array(table[name], from_pandas=False) for name in table}), tmp_path / "log.parquet"
    )
    _, timelines, quarantined = read_log(mapping(tmp_path))
    kept = table.dropna()
    assert sequences(timelines) == by_user(kept.assign(user=kept["user"].astype("int64")))
    assert quarantined["reason"].to_pylist() == ["empty user"] * 4


def test_texts_that_are_not_plain_whole_numbers_stay_users_of_their_own(tmp_path: Path) -> None:
    users = ["007", "7", "1.10", "1.1", "1e3", "1000", "007.0", "1001.", "1001"]
    text = csv(frame(users * 3))
    folder = written(tmp_path, {"log.csv": text})
    expected = by_user(pd.read_csv(io.StringIO(text), dtype=str))
    assert sequences(read_log(mapping(folder))[1]) == expected
    assert any("'007' and '007.0' and '7'" in doubt for doubt in doubts(read_facts(mapping(folder))))


def test_points_between_thousands_are_told_where_a_user_was_read_without(tmp_path: Path) -> None:
    folder = written(tmp_path, {"log.csv": csv(frame(["1.000", "1.234", "12.345.678", "7"] * 3))})
    told = [doubt for doubt in doubts(read_facts(mapping(folder))) if "between thousands" in doubt]
    assert len(told) == 1 and "'1.234'; '12.345.678' look like numbers" in told[0]
    folder = written(tmp_path, {"log.csv": csv(frame(["1", "1.234", "7"] * 3))})
    assert not any("between thousands" in doubt for doubt in doubts(read_facts(mapping(folder))))


@pytest.mark.parametrize(
    "text", ["1234567890123456789.0", "1.2345678901234568e+18", " 9007199254740993.0 ", "1.23457E+12"]
)
@pytest.mark.parametrize("role", ["user", "group"])
def test_ids_that_lost_digits_are_refused_by_file_row_and_column(
    tmp_path: Path, text: str, role: str
) -> None:
    table = frame([f"u{index}" for index in range(6)]).assign(team="t")
    column = {"user": "user", "group": "team"}[role]
    table.loc[3, column] = text
    folder = written(tmp_path, {"log.csv": csv(table)})
    with pytest.raises(
        DataError, match=rf"log\.csv, row 4: the column '{column}' holds .*2\^53.*as text or as an integer"
    ):
        read_log(mapping(folder, group="team"))


def test_large_ids_that_pandas_wrote_as_floats_are_refused(tmp_path: Path) -> None:
    table = frame([1234567890123456789, 1234567890123456790, None])
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), tmp_path / "log.parquet")
    with pytest.raises(
        DataError, match=r"log\.parquet: the column 'user' is of type double and holds 12345678901234\d+"
    ):
        read_log(mapping(tmp_path))
    (tmp_path / "log.parquet").unlink()
    with pytest.raises(
        DataError, match=r"log\.csv, row 1: the column 'user' holds '1\.23456789012345\d+e\+18'"
    ):
        read_log(mapping(written(tmp_path, {"log.csv": csv(table)})))
    (tmp_path / "log.csv").unlink()
    rows = "\n".join(
        json.dumps({**row, "user": float(row["user"])}) for row in table.dropna().to_dict("records")
    )
    with pytest.raises(
        DataError, match=r"log\.jsonl, row 1: the column 'user' holds '1\.23456789012345\d+e\+18'"
    ):
        read_log(mapping(written(tmp_path, {"log.jsonl": rows})))


def test_round_numbers_that_r_wrote_in_short_stay_text_and_are_told(tmp_path: Path) -> None:
    folder = written(tmp_path, {"log.csv": csv(frame(["1e+05", "99999", "100001"] * 3))})
    facts = read_facts(mapping(folder))
    assert dict(facts.largest) == {"1e+05": 3, "99999": 3, "100001": 3}
    assert any(
        doubt.startswith("1 user in the form of a number in short: '1e+05'; they stay text")
        for doubt in doubts(facts)
    )


def test_large_whole_numbers_are_users_digit_by_digit(tmp_path: Path) -> None:
    users = [1234567890123456789, 1234567890123456790, 2**63 - 1]
    table = frame(users * 2)
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), tmp_path / "a.parquet")
    written(tmp_path, {"b.csv": csv(table), "c.jsonl": table.to_json(orient="records", lines=True)})
    _, timelines, _ = read_log(mapping(tmp_path))
    assert {user: len(found) for user, found in sequences(timelines).items()} == {
        str(user): 6 for user in users
    }


def test_behaviors_are_not_merged_as_numbers_and_their_likeness_is_told(tmp_path: Path) -> None:
    text = csv(frame(["u1", "u2"] * 6).assign(action=["1", "1.0", "01", "2"] * 3))
    folder = written(tmp_path, {"log.csv": text})
    expected = pd.read_csv(io.StringIO(text), dtype=str)["action"].value_counts()
    facts = read_facts(mapping(folder))
    assert facts.behaviors == expected.to_dict()
    assert any(
        "differ only in case, blanks" in doubt and "'01' and '1' and '1.0'" in doubt
        for doubt in doubts(facts)
    )


def test_a_column_of_fixed_width_pads_users_groups_and_behaviors(tmp_path: Path) -> None:
    table = frame([f"user {index % 3}" for index in range(12)]).assign(team="north")
    padded = table.assign(
        user=table["user"].str.ljust(12), action=table["action"].str.ljust(20), team="north   "
    )
    folder = written(tmp_path, {"a.csv": csv(table[:6]), "b.csv": csv(padded[6:])})
    _, timelines, _ = read_log(mapping(folder, group="team"))
    read = pd.concat([pd.read_csv(folder / name) for name in ("a.csv", "b.csv")])
    assert sequences(timelines) == by_user(read.apply(lambda column: column.str.strip()))
    assert set(timelines["group"].to_pylist()) == {"north"}
    told = doubts(read_facts(mapping(folder, group="team")))
    assert any("3 users written in more than one way" in doubt and "blanks" in doubt for doubt in told)
    assert any(
        "behaviors written in more than one way count as one: 'open app' (blanks" in doubt for doubt in told
    )
    assert any(doubt.startswith("6 rows name their group in another spelling") for doubt in told)


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\x00", "\u00a0"])
def test_invisible_characters_at_the_ends_make_no_other_user(tmp_path: Path, mark: str) -> None:
    lines = [f'{{"user": "ann{json.dumps(mark)[1:-1] if day % 2 else ""}", "action": "a", "time": "2024-01-0{day}"}}'
             for day in range(1, 6)]  # fmt: skip
    folder = written(tmp_path, {"log.jsonl": "\n".join(lines)})
    assert sequences(read_log(mapping(folder))[1]) == {"ann": ["a"] * 5}


def test_both_unicode_forms_of_a_name_are_one(tmp_path: Path) -> None:
    table = frame(["José", "Zoë"] * 8).assign(action=["café", "thé", "café", "eau"] * 4)
    apart = table.copy()
    apart.loc[::3, ["user", "action"]] = apart.loc[::3, ["user", "action"]].map(
        lambda text: unicodedata.normalize("NFD", text)
    )
    assert apart["action"].nunique() == 5
    folder = written(tmp_path, {"log.csv": csv(apart)})
    assert sequences(read_log(mapping(folder))[1]) == by_user(table)
    told = doubts(read_facts(mapping(folder)))
    assert any("count as one: 'café' (another Unicode form" in doubt for doubt in told)
    assert any("2 users written in more than one way" in doubt for doubt in told)


def test_a_uuid_in_capitals_and_in_braces_is_the_same_user(tmp_path: Path) -> None:
    table = frame([UUID, UUID.upper(), "{" + UUID.upper() + "}", "{" + UUID + "}"] * 2)
    folder = written(tmp_path, {"log.csv": csv(table)})
    assert sequences(read_log(mapping(folder))[1]) == by_user(table.assign(user=UUID))


def test_null_markers_of_an_export_are_missing_in_every_column(tmp_path: Path) -> None:
    sound = ("u1", "a", "2024-01-01", "home", "g")
    rows = [
        sound,
        *(tuple(r"\N" if at == place else text for at, text in enumerate(sound)) for place in range(5)),
    ]
    rows.append(("u2", "b", "2024-01-07", "", "g"))
    names = ["user", "action", "time", "place", "team"]
    text = pd.DataFrame(rows, columns=names).to_csv(index=False, sep="\t")
    folder = written(tmp_path, {"log.csv": text})
    config = mapping(folder, delimiter="\t", context_before=["place"], group="team")
    _, timelines, quarantined = read_log(config)
    kept = pd.read_csv(io.StringIO(text), sep="\t", na_values=[r"\N"]).dropna(
        subset=["user", "action", "time", "team"]
    )
    assert sequences(timelines) == by_user(kept)
    assert (
        timelines["before.place"].to_pylist()
        == kept["place"].astype(object).where(kept["place"].notna(), None).tolist()
    )
    listed = [(row["row"], row["reason"], row["value"]) for row in quarantined.to_pylist()]
    assert sorted(listed) == [
        (2, "empty user", r"\N"), (3, "empty behavior", r"\N"), (4, "empty time", r"\N"), (6, "empty group", r"\N"),
    ]  # fmt: skip


def test_other_null_values_are_named_and_the_default_is_not_one_of_them_then(tmp_path: Path) -> None:
    users = ["NULL", "-1", "-1.0", r"\N", "null", "u1"]
    folder = written(tmp_path, {"log.csv": csv(frame(users * 2))})
    facts = read_facts(mapping(folder, null_values=["NULL", "-1"]))
    assert facts.quarantined == {"empty user": 6}
    assert dict(facts.largest) == {r"\N": 2, "null": 2, "u1": 2}
    assert read_facts(mapping(folder, null_values=["2024-01-01T00:05:00"])).quarantined == {"empty time": 1}


@pytest.mark.parametrize(
    "text",
    ["NULL", "nan", "None", "(not set)", "00000000-0000-0000-0000-000000000000", "n/a", "<NA>", "undefined"],
)
def test_a_text_that_means_nothing_is_suspected_as_a_user_and_as_a_behavior(
    tmp_path: Path, text: str
) -> None:
    table = frame(["u1", "u2", "u3", text] * 4)
    table.loc[5, "action"] = text
    told = doubts(read_facts(mapping(written(tmp_path, {"log.csv": csv(table)}))))
    assert any(f"users that look like a missing value: '{text}' (4 events)" in doubt for doubt in told)
    assert any(f"behaviors that look like a missing value: '{text}' (1 event)" in doubt for doubt in told)


@pytest.mark.parametrize("text", ["0", "-1", "unknown", "Anonymous"])
def test_a_user_that_may_be_nobody_is_suspected_only_where_it_has_many_events(
    tmp_path: Path, text: str
) -> None:
    others = [f"{index}" for index in range(1, 9)]
    usual = read_facts(mapping(written(tmp_path / "usual", {"log.csv": csv(frame([*others, text] * 3))})))
    assert not any("look like a missing value" in doubt for doubt in doubts(usual))
    large = read_facts(
        mapping(written(tmp_path / "large", {"log.csv": csv(frame([*others * 3, *[text] * 12]))}))
    )
    assert any(
        f"users that look like a missing value: '{text}' (12 events)" in doubt for doubt in doubts(large)
    )


def test_a_user_with_a_fifth_of_all_events_is_told(tmp_path: Path) -> None:
    users = [f"u{index}" for index in range(10)]
    even = read_facts(mapping(written(tmp_path / "even", {"log.csv": csv(frame(users * 3))})))
    assert not any("of all events" in doubt for doubt in doubts(even))
    large = read_facts(
        mapping(written(tmp_path / "large", {"log.csv": csv(frame([*users * 3, *["u3"] * 6]))}))
    )
    assert any(doubt.startswith("the user 'u3' has 25% of all events") for doubt in doubts(large))
    one = read_facts(mapping(written(tmp_path / "one", {"log.csv": csv(frame(["app"] * 6))})))
    assert any(
        "all events are of one user, 'app': is events.user the right column?" in doubt
        for doubt in doubts(one)
    )


def test_users_and_behaviors_that_differ_in_case_are_kept_apart_and_told(tmp_path: Path) -> None:
    table = frame(["ann@x.org", "Ann@X.org", "bob"] * 4).assign(
        action=["Add to cart", "add_to_cart", "pay", "Pay "] * 3
    )
    folder = written(tmp_path, {"log.csv": csv(table)})
    facts = read_facts(mapping(folder))
    assert facts.users == 3 and sorted(facts.behaviors) == ["Add to cart", "Pay", "add_to_cart", "pay"]
    told = doubts(facts)
    assert any(
        "2 users differ only in case" in doubt and "'Ann@X.org' and 'ann@x.org'" in doubt for doubt in told
    )
    assert any("'Add to cart' and 'add_to_cart'; 'Pay' and 'pay'" in doubt for doubt in told)
