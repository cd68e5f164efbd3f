"""Reading logs: finding files, checking columns, and what becomes of rows and files that are broken."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.encodings import NO_TEXT
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import find_files


def mapping(*paths: Path | str, **changes: Any) -> EventsConfig:
    keys: dict[str, Any] = {
        "dataset": "test",
        "paths": [str(path) for path in paths],
        "user": "who",
        "behavior": "what",
        "order": {"column": "step", "kind": "integer"},
    }
    return EventsConfig(**{**keys, **changes})


def read_all(config: EventsConfig, batch_rows: int = 1000) -> tuple[list[dict], list[dict]]:
    rows: list[dict] = []
    quarantined: list[dict] = []
    for source in find_files(config).files:
        for table, quarantine in read_table_batches(source, config, batch_rows):
            assert table.num_rows <= batch_rows
            rows.extend(table.to_pylist())
            quarantined.extend(quarantine.to_pylist())
    return rows, quarantined


def test_files_come_from_files_folders_and_globs_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "deep/er/c.jsonl", "d.PARQUET", ".hidden.csv", "_SUCCESS", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files = find_files(mapping(tmp_path, tmp_path / "*.csv", tmp_path / "**" / "*.jsonl")).files
    assert [Path(file.path).relative_to(tmp_path).as_posix() for file in files] == [
        "a.csv.gz",
        "b.csv",
        "d.PARQUET",
        "deep/er/c.jsonl",
    ]
    assert [file.format for file in files] == ["csv", "csv", "parquet", "jsonl"]
    assert files[0].size == 1


def test_a_file_with_brackets_in_its_name_is_not_taken_for_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "log[1].csv").write_text("who,what,step\nu,a,1\n")
    assert len(find_files(mapping(tmp_path / "log[1].csv")).files) == 1


def test_a_pattern_without_files_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x")
    with pytest.raises(DataError, match=r"'.*lag\*\.csv' matches no file.*holds log\.csv"):
        find_files(mapping(tmp_path / "lag*.csv"))


def test_an_unknown_suffix_asks_for_the_format(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text("who,what,step\nu,a,1\n")
    with pytest.raises(ConfigError, match=r"log\.dat has no known suffix; set format"):
        find_files(mapping(tmp_path / "log.dat"))
    assert read_all(mapping(tmp_path / "log.dat", format="csv"))[0][0]["behavior"] == "a"


def test_a_path_on_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gs://logs/a\.csv': only local files and s3://bucket/key"):
        find_files(mapping("gs://logs/a.csv"))


def test_a_missing_column_is_named_with_file_key_and_columns_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,what,step\nu,a,1\n")
    (tmp_path / "b.jsonl").write_text('{"who": "u", "step": 1}\n')
    pa.parquet.write_table(pa.table({"who": ["u"], "what": ["a"]}), tmp_path / "c.parquet")
    config = mapping(tmp_path, context_before=["where"])
    with pytest.raises(DataError) as caught:
        check_columns(config, find_files(config).files)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "a.csv: no column 'where' (events.context_before); columns there: who, what, step" in lines[0]
    # That b.jsonl lacks 'what', which others have, costs its rows only.
    assert "b.jsonl: no column 'where'" in lines[1]
    assert "c.parquet: no column 'step' (events.order.column); columns there: who, what" in lines[2]


def test_a_json_line_may_leave_out_a_context_key_that_another_has(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"who": "u", "what": "a", "step": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"who": "u", "what": "b", "step": 2, "where": "x"}\n')
    config = mapping(tmp_path, context_before=["where"])
    check_columns(config, find_files(config).files)
    assert [row["before.where"] for row in read_all(config)[0]] == [None, "x"]


def test_a_wrong_delimiter_is_suspected_when_there_is_one_column_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who;what;step\nu;a;1\n")
    config = mapping(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"is events\.delimiter really ','"):
        check_columns(config, find_files(config).files)
    assert read_all(mapping(tmp_path / "a.csv", delimiter=";"))[0][0]["user"] == "u"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ("who,what,step\n".encode("utf-16-le"), "not UTF-8"),
        (b"who,who,step,what\n", "more than once"),
    ],
)
def test_a_csv_without_a_usable_header_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    config = mapping(tmp_path / "a.csv")
    with pytest.raises(DataError, match=message):
        check_columns(config, find_files(config).files)


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "empty.parquet"])
def test_a_log_without_rows_reads_as_no_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("who,what,step\n")
    elif name.endswith("jsonl"):
        path.write_text("")
    else:
        pa.parquet.write_table(
            pa.table({key: pa.array([], pa.string()) for key in ("who", "what", "step")}), path
        )
    config = mapping(path)
    check_columns(config, find_files(config).files)
    assert read_all(config) == ([], [])


def test_malformed_rows_of_a_gzipped_csv_are_quarantined_with_their_numbers(tmp_path: Path) -> None:
    wrong = {1, 777, 5000, 59_999, 60_000}
    lines = [f"u{i},{'x' * 300},{i},9" if i not in wrong else f"u{i},broken" for i in range(1, 60_001)]
    with gzip.open(tmp_path / "log.csv.gz", "wt", compresslevel=1) as stream:
        # Above the size of a block, so that the numbers must go on from one to the next.
        stream.write("who,what,step,other\n" + "\n".join(lines) + "\n")
    rows, quarantined = read_all(mapping(tmp_path / "log.csv.gz"), batch_rows=7_000)
    assert [row["row"] for row in rows] == [i for i in range(1, 60_001) if i not in wrong]
    assert all(row["user"] == f"u{row['row']}" and row["order"] == str(row["row"]) for row in rows)
    assert sorted(row["row"] for row in quarantined) == sorted(wrong)
    assert {row["reason"] for row in quarantined} == {"malformed row"}
    assert quarantined[0]["value"] == "2 columns, not 4: u1,broken"
    assert quarantined[0]["file"].endswith("log.csv.gz")


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.gz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_a_damaged_gzip_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    if name.startswith("log.csv"):
        text = "who,what,step\n" + "".join(f"u{i * 7919 % 10_007},a,{i}\n" for i in range(200_000))
    else:
        text = "".join(
            f'{{"who": "u{i * 7919 % 10_007}", "what": "a", "step": {i}}}\n' for i in range(200_000)
        )
    content = bytearray(gzip.compress(text.encode(), compresslevel=1))
    if damage == "truncated":
        del content[-2000:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(text.encode())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*gzip"):
        read_all(mapping(tmp_path / name), batch_rows=1 << 20)


@pytest.mark.parametrize("position", ["in the middle of many", "in the last column"])
def test_a_quote_that_is_never_closed_is_refused_rather_than_swallowing_rows(
    tmp_path: Path, position: str
) -> None:
    broken = 'u,"a,0\n' if position == "in the middle of many" else 'u,a,"0\n'
    (tmp_path / "log.csv").write_text("who,what,step\n" + "u,a,1\n" * 1000 + broken + "u,a,2\n" * 3000)
    with pytest.raises(DataError, match=r"log\.csv: a quote opened in data row 1001 is never closed"):
        read_all(mapping(tmp_path / "log.csv"))


def test_a_quote_never_closed_for_longer_than_a_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('who,what,step\nu,"a,1\n' + "u,a,1\n" * 3_000_000)
    with pytest.raises(DataError, match=r"log\.csv.*(no end within|never closed)"):
        read_all(mapping(tmp_path / "log.csv"))


def test_bytes_that_are_not_utf8_cost_only_their_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"who,what,step\nu,caf\xe9,1\nu,caf\xc3\xa9,2\n")
    (tmp_path / "b.jsonl").write_bytes(
        b'{"who": "u", "what": "\xe9", "step": 1}\n{"who": "u", "what": "\\ud83d", "step": 2}\n'
        b'{"who": "u", "what": "ok", "step": 3}\n'
    )
    rows, quarantined = read_all(mapping(tmp_path))
    assert [(row["behavior"], row["row"]) for row in rows] == [("café", 2), ("ok", 3)]
    assert [(row["reason"], row["row"]) for row in quarantined] == [
        ("not UTF-8", 1),
        ("not UTF-8", 1),
        ("not UTF-8", 2),
    ]


def test_csv_text_survives_as_it_is_and_only_the_empty_value_is_null(tmp_path: Path) -> None:
    names = [
        "NA",
        "null",
        "nan",
        "007",
        "1.50",
        "true",
        " x ",
        "a,b",
        'say "hi"',
        "two\nlines",
        "<|im_end|>",
        "🎵",
        "שלום",
    ]
    with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.writer(stream)
        writer.writerow(["who", "what", "step"])
        writer.writerows([["NA", name, i] for i, name in enumerate(names)] + [["u", "", 99]])
    rows, _ = read_all(mapping(tmp_path / "log.csv"))
    assert [row["behavior"] for row in rows] == [*names, None]
    assert rows[0]["user"] == "NA"


def test_json_lines_that_are_no_plain_objects_are_quarantined_with_their_line(tmp_path: Path) -> None:
    lines = [
        '{"who": "u", "what": "a", "step": 1}',
        "",
        '{"who": "u", "what": "b"',
        '["who"]',
        '{"who": "u", "what": ["b"], "step": 2}',
        '{"who": "u", "what": "c", "step": 3}{"who": "u", "what": "d", "step": 4}',
        '{"who": 7, "what": true, "step": 5.25, "other": {"deep": [1]}}',
        '{"what": "e", "step": 123456789012345678901}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    rows, quarantined = read_all(mapping(tmp_path / "log.jsonl"))
    assert [(row["user"], row["behavior"], row["order"], row["row"]) for row in rows] == [
        ("u", "a", "1", 1),
        ("7", "true", "5.25", 7),
        (None, "e", "123456789012345678901", 8),
    ]
    assert [row["row"] for row in quarantined] == [3, 4, 5, 6]
    assert "'what' is not plain" in quarantined[2]["value"]


def test_json_without_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(["u", "a", 1]))
    config = mapping(tmp_path / "log.jsonl")
    with pytest.raises(DataError, match=r"log\.jsonl.*one object a line"):
        check_columns(config, find_files(config).files)


# Hypothesis tries the constants of the code, too: what stands for bytes that are no text is no text.
plain_text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8).filter(
    lambda text: NO_TEXT not in text
)
json_values = st.none() | plain_text | st.integers(-(2**70), 2**70) | st.booleans()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["who", "what", "step", "x"]), json_values), max_size=12)
)
def test_json_lines_read_like_pythons_json_whichever_way_a_block_takes(
    tmp_path: Path, rows: list[dict]
) -> None:
    def text(value: Any) -> str | None:
        return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read, quarantined = read_all(mapping(tmp_path / "log.jsonl"))
    assert quarantined == []
    assert [(row["user"], row["behavior"], row["order"]) for row in read] == [
        (text(row.get("who")), text(row.get("what")), text(row.get("step"))) for row in rows
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(plain_text, plain_text, plain_text), max_size=12))
def test_csv_reads_like_pythons_csv(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("who", "what", "step"), *rows])
    (tmp_path / "log.csv").write_text(buffer.getvalue(), newline="")
    # Quotes are doubled, so that a backslash before one is a backslash.
    read, quarantined = read_all(mapping(tmp_path / "log.csv", escape=None))
    assert quarantined == []
    assert [(row["user"], row["behavior"], row["order"]) for row in read] == [
        tuple(value or None for value in row) for row in rows
    ]
    assert [row["row"] for row in read] == list(range(1, len(rows) + 1))


def test_parquet_columns_of_any_plain_type_read_as_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": pa.array([1.0, 2.0, None]),
            "what": pa.array(["a", "b", "a"]).dictionary_encode(),
            "step": pa.array([1_565_797_219_345_589] * 3, pa.timestamp("us", tz="Europe/Prague")),
            "where": pa.array([True, None, False]),
        }
    )
    pa.parquet.write_table(table, tmp_path / "log.parquet", row_group_size=2)
    rows, _ = read_all(mapping(tmp_path / "log.parquet", order={"column": "step"}, context_before=["where"]))
    assert [row["user"] for row in rows] == ["1", "2", None]
    assert [row["behavior"] for row in rows] == ["a", "b", "a"]
    assert rows[0]["order"] == "2019-08-14 17:40:19.345589+0200"
    assert [row["before.where"] for row in rows] == ["true", None, "false"]
    assert [row["row"] for row in rows] == [1, 2, 3]


def test_a_nested_parquet_column_and_a_broken_parquet_file_are_refused(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"who": ["u"], "what": [["a"]], "step": [1]}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"'what' is of type list"):
        read_all(mapping(tmp_path / "log.parquet"))
    (tmp_path / "log.parquet").write_bytes(b"PAR1 no")
    config = mapping(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"log\.parquet: not a readable Parquet file"):
        check_columns(config, find_files(config).files)


def test_one_column_may_serve_as_user_and_group(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what,step\nu,a,1\n")
    rows, _ = read_all(mapping(tmp_path / "log.csv", group="who", context_after=["step"]))
    assert rows == [{"user": "u", "order": "1", "behavior": "a", "group": "u", "after.step": "1", "row": 1}]
