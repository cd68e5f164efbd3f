"""Reading a piece of a log: what Parquet holds as timestamps and in dictionaries is read as its text would be."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behaviorlm.events.log import find_log, read_events
from behaviorlm.log_files import parquet_files
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.parquet_text import as_text, may_stay
from behaviorlm.log_files.source_files import SourceFile

PLAIN = [1_700_000_000, 1_700_000_001, 1_600_000_000, 0]
ODD = [None, -1, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 1_699_999_999]
USERS = ["u1", " u1", "U-7", "7.0", "7", "", None, "null", "ü", "u\u0308", "b'x'"]


@pytest.fixture(autouse=True)
def groups_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "LEAST_ROWS_OF_GROUPS", 1)


def events_of(
    folder: Path,
    columns: dict[str, pa.Array],
    what: str = "what",
    written: dict | None = None,
    order: dict[str, str | None] | None = None,
) -> tuple[list[dict], list[dict]]:
    """Events and quarantined rows of a log in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "log.parquet", row_group_size=7, **written or {})
    config = EventsConfig(
        dataset="d",
        paths=[str(folder / "log.parquet")],
        user="user",
        behavior=what,
        order={"column": "when", **(order or {})},
        null_values=["\\N", " null "],
        max_quarantine_share=1.0,
    )
    read = list(read_events(find_log(config)))
    events, quarantine = (pa.concat_tables(tables).to_pylist() for tables in zip(*read, strict=True))
    return events, [{**row, "file": None} for row in quarantine]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.sampled_from(PLAIN + ODD), min_size=1, max_size=20),
    unit=st.sampled_from(["ms", "us", "ns"]),  # Parquet has no seconds
    zone=st.sampled_from([None, "UTC"]),
    local=st.sampled_from([None, "America/New_York"]),
    epochs=st.sampled_from(["auto", "seconds"]),
    data=st.data(),
)
def test_typed_columns_are_read_as_their_text(
    tmp_path: Path,
    numbers: list[int | None],
    unit: str,
    zone: str | None,
    local: str | None,
    epochs: str,
    data: st.DataObject,
) -> None:
    below = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    most = 2**63 // below
    exact = [
        number * below + data.draw(st.integers(0, below - 1))
        if number is not None and abs(number) < most
        else None
        for number in [PLAIN[0], *numbers]
    ]
    moments = pa.array(exact, pa.int64()).cast(pa.timestamp(unit, tz=zone))
    users = [data.draw(st.sampled_from(USERS)) for _ in exact]
    names = [data.draw(st.sampled_from(["view", " view", "buy", "", None])) for _ in exact]
    columns = {"user": pa.array(users), "what": pa.array(names), "when": moments}
    # Large strings are never kept in a dictionary.
    text = {name: as_text(values).cast(pa.large_string()) for name, values in columns.items()}
    order = {"time_zone": local, "earliest": "1990-01-01", "epoch_unit": epochs}
    assert events_of(tmp_path / "typed", columns, order=order) == events_of(
        tmp_path / "text", text, order=order
    )


MANY = {
    "user": pa.array([f"u{number % 5}" for number in range(40)]),
    "what": pa.array([f"w{number % 3}" for number in range(40)]),
    "when": pa.array([datetime(2024, 5, 1, 10, number, tzinfo=UTC) for number in range(40)]),
}
BY_FORMAT_2 = dict.fromkeys(("user", "what"), "DELTA_BYTE_ARRAY")


def test_texts_without_dictionaries_are_read(tmp_path: Path) -> None:
    written = {"use_dictionary": False, "column_encoding": BY_FORMAT_2}
    assert events_of(tmp_path / "delta", MANY, written=written) == events_of(tmp_path / "plain", MANY)


def test_names_inside_of_structs_are_read_over_several_groups(tmp_path: Path) -> None:
    inside = {**MANY, "what": pa.StructArray.from_arrays([MANY["what"]], ["name"])}
    assert events_of(tmp_path / "in", inside, what="what.name") == events_of(tmp_path / "plain", MANY)


def test_groups_too_small_for_batches_of_their_own_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "LEAST_ROWS_OF_GROUPS", 8)
    pq.write_table(pa.table(MANY), tmp_path / "log.parquet", row_group_size=7)
    parquet = parquet_files.open_parquet(SourceFile(str(tmp_path / "log.parquet"), 0, "parquet"), ["what"])
    assert [len(batch) for batch in parquet.iter_batches(batch_size=100)] == [40]


def test_only_behaviors_are_asked_for_in_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def none(_: object, named: list[str]) -> list[str]:
        asked.extend(named)
        return []

    monkeypatch.setattr(parquet_files, "_in_dictionaries", none)
    events_of(tmp_path, {**MANY, "when": MANY["when"].cast(pa.string())})
    assert asked == ["what"]


@pytest.mark.parametrize(
    ("values", "stays"),
    [
        (pa.array([0, None], pa.timestamp("us", tz="UTC")), True),
        (pa.array([None], pa.timestamp("ns")), True),
        (pa.array([0], pa.timestamp("us", tz="Europe/Berlin")), False),
        (pa.array([253_402_300_800], pa.timestamp("s")), False),
        (pa.array(["a", "a"]).dictionary_encode(), True),
        (pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["a", "b"])), False),
        (pa.array(["a"]), False),
    ],
)
def test_what_may_stay_as_parquet_has_it(values: pa.Array, stays: bool) -> None:
    assert may_stay(values) is stays
