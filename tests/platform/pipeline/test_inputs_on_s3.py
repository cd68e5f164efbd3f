"""Logs, conversations and cloze questions on S3 are found and read as local ones are."""

import gzip
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from behaviorlm.errors import DataError, StorageError
from behaviorlm.files import input_files, patient_reads
from behaviorlm.files.clock import SYSTEM_CLOCK
from behaviorlm.files.input_files import (
    QUICK_ATTEMPTS,
    find_on_s3,
    open_bytes,
    open_random_access,
)
from behaviorlm.files.patient_reads import patience
from behaviorlm.files.unpacking import open_unpacked
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.config import EventsConfig, OrderConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import find_files
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import read_conversations, source_files
from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.inputs import hash_of_files
from behaviorlm_ray.storage import S3Location, s3_access
from tests.platform.s3_faults import FaultyProxy
from tests.platform.small_runs import log_rows, write_conversations, write_log
from tests.platform.stages.simulation import VirtualClock

NAMES = [
    "log/a.csv",
    "log/deep/b.csv.gz",
    "log/c.parquet",
    "log/deep/d.jsonl",
    "log/_SUCCESS",
    "log/.hidden/e.csv",
]


def mapping(*paths: str) -> EventsConfig:
    return EventsConfig(
        dataset="log",
        paths=list(paths),
        user="user",
        behavior="behavior",
        order=OrderConfig(column="time", kind="time"),
    )


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """By which our pauses are, of reads as of all else."""
    clock = VirtualClock()
    monkeypatch.setattr(patient_reads, "CLOCK", clock)
    monkeypatch.setattr(patient_reads, "_last_announced", 0.0)
    monkeypatch.setattr(s3_access, "CLOCK", clock)
    return clock


@pytest.fixture
def only_our_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow and boto3, which pause by the clock of the machine, make one attempt, so that all others are ours."""
    monkeypatch.setattr(input_files, "QUICK_ATTEMPTS", 1)
    monkeypatch.setattr(s3_access, "QUICK_ATTEMPTS", 1)


@pytest.fixture
def both(s3_root: S3Location, tmp_path: Path) -> tuple[Path, S3Location]:
    """The same files locally and on S3."""
    local = tmp_path / "inputs"
    rows = log_rows(3, users=6)
    for number, name in enumerate(NAMES):
        if name.endswith("_SUCCESS"):
            (local / name).write_text("")
        else:
            write_log(local / name, rows[number::5])
    write_conversations(local / "talk.jsonl")
    question = {"prefix": "The sky is", "right": " blue", "wrong": [" loud"]}
    (local / "cloze.jsonl").write_text(json.dumps(question) + "\n")
    with storage.writing(s3_root) as folder:
        for path in local.rglob("*"):
            if path.is_file():
                copy = folder / path.relative_to(local)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    return local, s3_root


@pytest.mark.parametrize(
    "pattern",
    ["log", "log/a.csv", "log/*.csv", "log/**/*.csv*", "log/deep/[a-c]*", "log/?.parquet", "lo*"],
)
def test_the_same_files_are_found_and_read(both: tuple[Path, S3Location], pattern: str) -> None:
    found = []
    for place in both:
        config = mapping(f"{place}/{pattern}")
        files = find_files(config).files
        check_columns(config, files)
        batches = [table for file in files for table, _ in read_table_batches(file, config)]
        names = [(file.path.removeprefix(f"{place}/"), file.size, file.format) for file in files]
        found.append((names, pa.concat_tables(batches).to_pylist()))
    assert found[0] == found[1]
    assert found[0][1]


def test_an_object_that_only_its_case_keeps_from_a_glob_is_named(both: tuple[Path, S3Location]) -> None:
    local, remote = both
    with storage.writing(remote) as folder:
        (folder / "log").mkdir(exist_ok=True)
        (folder / "log" / "B.CSV").write_bytes((local / "log" / "a.csv").read_bytes())
    found = find_files(mapping(f"{remote}/log/*.csv"))
    assert [file.path for file in found.files] == [f"{remote}/log/a.csv"]
    assert found.notes == (f"passed over, for the glob has its letters in another case: {remote}/log/B.CSV",)


def test_conversations_and_cloze_questions_are_read(both: tuple[Path, S3Location]) -> None:
    local, remote = both
    for pattern in ("talk.jsonl", "*.jsonl"):
        sources = [
            AuxiliarySource(name="talk", paths=[f"{place}/{pattern}"], max_quarantine_share=1)
            for place in both
        ]
        assert read_conversations(sources[0]).conversations == read_conversations(sources[1]).conversations
        assert source_files(sources[1])[-1] == f"{remote}/talk.jsonl"
    assert read_cloze(str(remote / "cloze.jsonl")) == read_cloze(local / "cloze.jsonl")


def test_what_is_not_there_is_named(s3_root: S3Location) -> None:
    with pytest.raises(
        DataError, match=r"events\.paths: 's3://.*/nothing/\*\.csv' matches no file.*AWS_ENDPOINT_URL"
    ):
        find_files(mapping(f"{s3_root}/nothing/*.csv"))
    with pytest.raises(DataError, match=r"events\.paths: 's3://no-such-bucket-here/log' "):
        find_files(mapping("s3://no-such-bucket-here/log"))
    with pytest.raises(DataError, match=r"'talk': paths: nothing found at s3://"):
        source_files(AuxiliarySource(name="talk", paths=[f"{s3_root}/talk.jsonl"]))
    with pytest.raises(DataError, match="cannot be read"):
        read_cloze(f"{s3_root}/cloze.jsonl")


def everything(place: Path | S3Location) -> list[object]:
    """What is read of the inputs, however it is opened: listed, by heads, as a stream, from any place."""
    config = mapping(f"{place}/log")
    files = find_files(config).files
    check_columns(config, files)
    tables = [table for file in files for table, _ in read_table_batches(file, config)]
    source = AuxiliarySource(name="talk", paths=[f"{place}/*.jsonl"], max_quarantine_share=1)
    read = [pa.concat_tables(tables).to_pylist(), read_conversations(source).conversations]
    return [*read, read_cloze(f"{place}/cloze.jsonl")]


@pytest.mark.usefixtures("only_our_attempts")
@pytest.mark.parametrize("fault", ["InternalError", "SlowDown", "reset", "cut", "lost"])
def test_inputs_are_read_whole_through_faults(
    both: tuple[Path, S3Location], proxy: FaultyProxy, fault: str
) -> None:
    for _ in range(2):
        proxy.plan(fault, 4, status=503 if fault == "SlowDown" else 500)
        proxy.plan("", 4)
    assert everything(both[1]) == everything(both[0])
    assert proxy.happened == [fault] * 8


def test_faults_are_waited_for_when_arrow_gives_up(both: tuple[Path, S3Location], proxy: FaultyProxy) -> None:
    """More of them in a row than Arrow puts up with, which pauses by the clock of the machine."""
    proxy.plan("reset", QUICK_ATTEMPTS + 1)
    assert everything(both[1]) == everything(both[0])
    assert proxy.happened == ["reset"] * (QUICK_ATTEMPTS + 1)


@pytest.mark.usefixtures("only_our_attempts")
def test_an_outage_is_waited_for_while_inputs_are_listed_opened_and_read(
    both: tuple[Path, S3Location],
    proxy: FaultyProxy,
    clock: VirtualClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = f"{both[1]}/talk.jsonl"
    content = (both[0] / "talk.jsonl").read_bytes()
    begun = clock.time
    proxy.go_down_by(clock, 40.0)
    assert path in find_on_s3(f"{both[1]}/*.jsonl", lambda name: True)
    assert 40 <= clock.time - begun < 50
    proxy.go_down_by(clock, 40.0)
    with open_bytes(path) as stored:
        proxy.go_down_by(clock, 40.0)
        assert stored.read() == content
    assert 120 <= clock.time - begun < 150
    told = capsys.readouterr().out
    assert all(f"input: cannot {action} " in told for action in ("list", "open", "read"))


@pytest.mark.usefixtures("only_our_attempts")
@pytest.mark.parametrize("name", ["a.csv", "c.parquet"])
def test_an_outage_longer_than_the_patience_stops_resumably(
    both: tuple[Path, S3Location], proxy: FaultyProxy, clock: VirtualClock, name: str
) -> None:
    """While it is opened and while it is being read, also by readers that are not ours."""
    seconds = 2.0
    config = mapping(f"{both[1]}/log")
    (file,) = find_files(mapping(f"{both[1]}/log/{name}")).files
    told = (
        rf"did not serve the request for {seconds:.0f} s .*resumable.*run the same command.*patience_seconds"
    )
    with patience(seconds):
        proxy.go_down(1000.0)
        with pytest.raises(StorageError, match=rf"(?s)cannot open {file.path}: .*{told}"):
            next(read_table_batches(file, config))
        proxy.down_until = 0.0
        stored = open_random_access(file.path)
        proxy.go_down(1000.0)
        with pytest.raises(StorageError, match=rf"(?s)cannot read {file.path}: .*{told}"):
            pyarrow.csv.read_csv(stored)
        with pytest.raises(StorageError, match=rf"(?s)cannot find {both[1]}/log/\*\*: .*{told}"):
            find_files(mapping(f"{both[1]}/log/**"))
        begun = clock.time
        with pytest.raises(StorageError, match=r"(?s)resumable.*patience_seconds"):
            hash_of_files("the log", [file.path])
        assert clock.time - begun < 30  # and not the 180 s of another patience


def test_what_does_not_pass_is_not_waited_for(both: tuple[Path, S3Location], proxy: FaultyProxy) -> None:
    proxy.plan("AccessDenied", 50, status=403)
    with pytest.raises(OSError, match=r"ACCESS_DENIED|403"), open_bytes(f"{both[1]}/talk.jsonl"):
        pass
    assert len(proxy.happened) < 5


@pytest.mark.slow
def test_a_full_minute_of_outage_is_survived_by_many_readers_at_once(
    both: tuple[Path, S3Location], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the machine, with Arrow's attempts."""
    monkeypatch.setattr(patient_reads, "CLOCK", SYSTEM_CLOCK)
    expected = (both[0] / "talk.jsonl").read_bytes()

    def read(_: int) -> bytes:
        with open_bytes(f"{both[1]}/talk.jsonl") as stored:
            return stored.read()

    proxy.go_down(60.0)
    begun = time.monotonic()
    with ThreadPoolExecutor(16) as readers:
        assert list(readers.map(read, range(64))) == [expected] * 64
    assert time.monotonic() - begun >= 60


def test_a_stream_takes_few_requests(both: tuple[Path, S3Location], proxy: FaultyProxy) -> None:
    """Packed text is unpacked a few kilobytes at a time; each of these must not become a request."""
    storage.write_exclusive(both[1] / "long.gz", gzip.compress(random.Random(1).randbytes(300_000)))
    before = len(proxy.served)
    with open_unpacked(f"{both[1]}/long.gz") as stream:
        assert len(stream.read()) == 300_000
    assert len(proxy.served) - before <= 3
