"""Parquet and Arrow files that run code when a value is looked at, once Ray Data is loaded: no reader of ours does."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  # it teaches Arrow the type
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

from behaviorlm.errors import BehaviorLMError
from behaviorlm.files.data_only import data_only
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import find_files
from behaviorlm.predictor.counts import CONTEXTS, COUNTS, read_counts
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import read_conversations
from behaviorlm_ray.preparation.conversation_files import read_encoded

ROOT = Path(__file__).resolve().parents[3]


class _Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@pytest.fixture
def hostile(marker: Path) -> pa.Array:
    """Two values that make a folder `marker` when they are looked at."""
    payload = pa.array([pickle.dumps(_Touch(marker))] * 2, pa.large_binary())
    return pa.ExtensionArray.from_storage(ArrowPythonObjectType(), payload)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def arrow(path: Path, **columns: Any) -> Path:
    table = pa.table(columns)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


def test_the_planted_value_would_act(tmp_path: Path, marker: Path, hostile: pa.Array) -> None:
    with pytest.raises(FileExistsError):  # the first has acted, the second finds what it made
        pq.read_table(parquet(tmp_path / "a.parquet", messages=hostile)).to_pylist()
    assert marker.is_dir()


def _log(folder: Path, hostile: pa.Array) -> None:
    path = parquet(folder / "log.parquet", user=["a", "b"], behavior=hostile, time=[1, 2])
    _read_log(path, {})


def _exploded_log(folder: Path, hostile: pa.Array) -> None:
    lists = pa.array([["x"], None])
    path = parquet(folder / "log.parquet", user=hostile, behavior=lists, time=[1, 2])
    _read_log(path, {"explode": "behavior"})


def _read_log(path: Path, more: dict[str, Any]) -> None:
    keys: dict[str, Any] = {"paths": [str(path)], "dataset": "d", "user": "user", "behavior": "behavior"}
    keys |= {"order": {"column": "time", "kind": "integer"}} | more
    config = EventsConfig.model_validate(keys)
    for source in find_files(config).files:
        list(read_table_batches(source, config, 10))


def _conversations(folder: Path, hostile: pa.Array) -> None:
    path = parquet(folder / "talk.parquet", messages=hostile)
    read_conversations(AuxiliarySource(name="talk", paths=[str(path)]))


def _nested_conversations(folder: Path, hostile: pa.Array) -> None:
    turns = pa.StructArray.from_arrays([pa.array(["user", "user"]), hostile], ["role", "content"])
    path = parquet(folder / "talk.parquet", messages=pa.ListArray.from_arrays([0, 1, 2], turns))
    read_conversations(AuxiliarySource(name="talk", paths=[str(path)]))


def _encoded(folder: Path, hostile: pa.Array) -> None:
    read_encoded(arrow(folder / "talk.arrow", token_ids=hostile, is_holdout=[True, True]), True)


def _counts(folder: Path, hostile: pa.Array) -> None:
    arrow(folder / COUNTS, context=hostile)
    arrow(folder / CONTEXTS, context=[0, 1], room=hostile)
    read_counts(folder, 2)


@pytest.mark.parametrize(
    "read", [_log, _exploded_log, _conversations, _nested_conversations, _encoded, _counts]
)
def test_no_reader_looks_at_it_and_each_names_the_file(
    read: Callable[[Path, pa.Array], None], tmp_path: Path, marker: Path, hostile: pa.Array
) -> None:
    with pytest.raises(BehaviorLMError, match=str(tmp_path)):
        read(tmp_path, hostile)
    assert not marker.exists()


def test_what_arrow_brings_itself_is_data(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet", id=pa.array([b"0" * 16], pa.uuid()), kind=pa.array(["a"]).dictionary_encode()
    )
    assert data_only(pq.ParquetFile(path), path).read().num_rows == 1


def test_every_file_of_arrows_is_opened_so() -> None:
    """But for what a test or the harness of chaos wrote itself."""
    opening = re.compile(
        r"(?<!data_only\()\b(?:pq|pa\.ipc|pyarrow\.parquet)\.(?:ParquetFile|read_table|open_file|open_stream)\("
    )
    paths = [path for folder in ("behaviorlm", "platform", "jobs") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in paths if opening.search(re.sub(r"\(\s+", "(", path.read_text()))] == []
