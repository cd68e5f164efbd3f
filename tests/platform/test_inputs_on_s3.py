"""Logs, conversations and cloze questions on S3 are found and read as local ones are."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from behaviorlm.cloze import read_cloze
from behaviorlm.conversations import AuxiliarySource, read_conversations, source_files
from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, OrderConfig
from behaviorlm.events.files import list_files
from behaviorlm.events.reading import check_columns, read_table_batches
from behaviorlm_ray import storage
from behaviorlm_ray.storage import S3Location
from tests.platform.small_runs import log_rows, write_conversations, write_log

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
        files = list_files(config)
        check_columns(config, files)
        batches = [table for file in files for table, _ in read_table_batches(file, config)]
        names = [(file.path.removeprefix(f"{place}/"), file.size, file.format) for file in files]
        found.append((names, pa.concat_tables(batches).to_pylist()))
    assert found[0] == found[1]
    assert found[0][1]


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
        list_files(mapping(f"{s3_root}/nothing/*.csv"))
    with pytest.raises(DataError, match=r"events\.paths: 's3://no-such-bucket-here/log' "):
        list_files(mapping("s3://no-such-bucket-here/log"))
    with pytest.raises(DataError, match=r"'talk': paths: nothing found at s3://"):
        source_files(AuxiliarySource(name="talk", paths=[f"{s3_root}/talk.jsonl"]))
    with pytest.raises(DataError, match="cannot be read"):
        read_cloze(f"{s3_root}/cloze.jsonl")
