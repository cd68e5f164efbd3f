"""A log as a source of Ray Data: the rows and the quarantine of a plain reading, composed with what users bring."""

import functools
import gzip
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events import log as events_log
from behaviorlm.log_files.config import EventsConfig
from behaviorlm_ray.preparation import log_source, passes
from tests.behaviorlm.events.field.field_logs import mapping
from tests.platform.preparation.test_passes import Prepare, all_events, prepare  # noqa: F401  # a fixture
from tests.platform.small_runs import log_rows, write_log

BY_PLACE = [("file", "ascending"), ("row", "ascending")]
SPAN_BYTES = 12_000


@pytest.fixture
def mixed(tmp_path: Path) -> EventsConfig:
    """CSV, large and packed, JSON lines and Parquet, each with rows that cannot be used."""
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.csv").write_text(csv_text(0, 3_000))
    (folder / "b.csv.gz").write_bytes(gzip.compress(csv_text(5_000, 400).encode()))
    lines = [
        "not JSON"
        if number % 60 == 9
        else f'{{"user": "j{number % 7}", "action": "b", "time": "2024-05-02"}}'
        for number in range(2_000)
    ]
    (folder / "c.jsonl").write_text("\n".join(lines))
    users = [None if number % 80 == 1 else f"p{number * 7919 % 4001}" for number in range(4_000)]
    columns = {"user": users, "action": ["c"] * 4_000, "time": ["2024-05-03T01:02:03"] * 4_000}
    pq.write_table(pa.table(columns), folder / "d.parquet", row_group_size=500, compression="none")
    return mapping(folder)


def csv_text(first: int, rows: int) -> str:
    lines = [
        f"u{number % 9},a{number % 5},{'never' if number % 50 == 3 else f'2024-05-01T10:{number % 60:02d}:00'}"
        for number in range(first, first + rows)
    ]
    return "user,action,time\n" + "\n".join(lines) + "\n"


def read_plainly(config: EventsConfig) -> tuple[pa.Table, pa.Table]:
    """(events, quarantine) by the reading that needs no Ray, by file and row."""
    events, quarantine = map(
        pa.concat_tables, zip(*events_log.read_events(events_log.find_log(config)), strict=True)
    )
    return events.sort_by(BY_PLACE).combine_chunks(), quarantine.sort_by(BY_PLACE).combine_chunks()


def tables_in(folder: Path) -> pa.Table:
    tables = [pq.read_table(path) for path in sorted(folder.iterdir())]
    return pa.concat_tables(tables).sort_by(BY_PLACE).combine_chunks()


def test_read_events_gives_every_row_once_and_composes_with_map_batches(
    ray_cluster: None, mixed: EventsConfig, tmp_path: Path
) -> None:
    # Within the test, so that it is sent as it is: to import this module a worker would load torch.
    def count_characters(events: pa.Table) -> pa.Table:
        return events.append_column("characters", pc.utf8_length(events["behavior"]))

    dataset = log_source.read_events(mixed, tmp_path / "quarantine", span_bytes=SPAN_BYTES)
    counted = dataset.map_batches(count_characters, batch_format="pyarrow", batch_size=700)
    found = pa.concat_tables(counted.iter_batches(batch_format="pyarrow", batch_size=None))
    expected, set_aside = read_plainly(mixed)
    found = found.sort_by(BY_PLACE).combine_chunks()
    assert found.drop_columns("characters").cast(expected.schema) == expected
    assert found["characters"].to_pylist() == [len(name) for name in expected["behavior"].to_pylist()]
    assert tables_in(tmp_path / "quarantine") == set_aside
    assert len(set_aside) > 100 and len(list((tmp_path / "quarantine").iterdir())) > 6  # several of a file
    with pytest.raises(DataError, match=r"row \d+: .*folder for the rows that cannot be used"):
        log_source.read_events(mixed).count()


@pytest.mark.ray
def test_preparation_by_spans_prepares_what_it_does_by_files(
    prepare: Prepare,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    rows = log_rows(1, users=60)
    rows[100]["time"] = "never"
    path = write_log(tmp_path / "log.csv", rows)
    by_files, report = prepare("by_files", path)
    request.getfixturevalue("on_ray")
    small = functools.partial(log_source.pieces_of, span_bytes=path.stat().st_size // 6)
    monkeypatch.setattr(passes, "pieces_of", small)
    by_spans, same_report = prepare("by_spans", path)
    assert all_events(by_spans) == all_events(by_files)
    assert same_report.facts.model_dump() == report.facts.model_dump() and report.facts.files == 1
    tables = [tables_in(Path(str(log.folder)) / "quarantine") for log in (by_files, by_spans)]
    assert tables[0] == tables[1] and tables[0]["row"].to_pylist() == [101]


def test_a_task_reads_pieces_that_follow_each_other_and_each_is_named_once(mixed: EventsConfig) -> None:
    log = events_log.find_log(mixed)
    pieces = [events_log.Piece(index, file) for index, file in enumerate(log.files)]
    source = log_source.LogDatasource(
        pieces, log.events, lambda piece, batches: [pa.table({"name": [piece.name]})]
    )
    for parallelism, tasks in ((1, 1), (3, 3), (200, 4)):
        read = source.get_read_tasks(parallelism)
        assert len(read) == tasks
        names = [name for task in read for block in task() for name in block["name"].to_pylist()]
        assert names == ["000000", "000001", "000002", "000003"]
        assert sum(task.metadata.size_bytes or 0 for task in read) == source.estimate_inmemory_data_size()
    assert [path for task in read for path in task.metadata.input_files or ()] == [
        file.path for file in log.files
    ]


def test_only_a_small_log_on_a_machine_without_a_cluster_is_read_here(
    mixed: EventsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = events_log.find_log(mixed)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert log_source.is_read_here(log)
    for address in ("auto", "127.0.0.1:6379"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert not log_source.is_read_here(log)
    monkeypatch.delenv("RAY_ADDRESS")
    assert not log_source.is_read_here(replace(log, files=9 * log.files))
    packed = log.files[1]
    room = int(log_source.SMALL_BYTES / log_source.PACKED / 2)
    assert log_source.is_read_here(replace(log, files=(replace(packed, size=room),)))
    assert not log_source.is_read_here(replace(log, files=(replace(packed, size=room + 2),)))


def test_a_task_that_is_tried_again_leaves_one_quarantine(mixed: EventsConfig, tmp_path: Path) -> None:
    log = events_log.find_log(mixed)
    pieces = [events_log.Piece(index, file) for index, file in enumerate(log.files)]
    take = log_source._Events(tmp_path / "quarantine", False)
    tasks = log_source.LogDatasource(pieces, log.events, take).get_read_tasks(2)
    expected, set_aside = read_plainly(mixed)
    for _ in range(2):
        events = pa.concat_tables([block for task in tasks for block in task()])
        assert events.combine_chunks() == expected
        assert tables_in(tmp_path / "quarantine") == set_aside


def test_times_with_and_without_zones_in_different_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("user,action,time\nu1,a,2024-05-01T10:00:00\n")
    (tmp_path / "2.csv").write_text("user,action,time\nu1,b,2024-05-01T10:00:00+02:00\n")
    log = events_log.find_log(mapping(tmp_path))
    take = log_source._Events(None, log_source._is_zoned(log))
    pieces = [events_log.Piece(index, file) for index, file in enumerate(log.files)]
    first, second = log_source.LogDatasource(pieces, log.events, take).get_read_tasks(2)
    assert sum(map(len, first())) == 1
    with pytest.raises(DataError, match=r"2\.csv, row 1: some times have a zone.*events\.order\.time_zone"):
        list(second())
