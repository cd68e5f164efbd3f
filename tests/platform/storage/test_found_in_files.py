"""That what looks for secrets and users in files finds them, so that finding none means something."""

import base64
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.platform.found_in_files import files_with

PLANTED = "Zürich-7f3a/user:planted"


def _arrow(path: Path, text: str) -> None:
    table = pa.table({"user": pa.array(["a", text]).dictionary_encode()})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table)


def _zipped(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.gz", gzip.compress(text.encode() * 3))


WAYS: dict[str, Callable[[Path, str], object]] = {
    "plain": lambda path, text: path.write_text(f"a {text} b", encoding="utf-8"),
    "json": lambda path, text: path.write_text(json.dumps({"a": [text]})),
    "gzip": lambda path, text: path.write_bytes(gzip.compress(text.encode() * 9)),
    "zip in gzip": _zipped,
    "parquet": lambda path, text: pq.write_table(
        pa.table({"a": ["x"] * 99 + [text]}), path, compression="zstd"
    ),
    "nested parquet": lambda path, text: pq.write_table(
        pa.table({"a": [[{"b": text}]]}), path, compression="zstd"
    ),
    "parquet metadata": lambda path, text: pq.write_table(
        pa.table({"a": [1]}).replace_schema_metadata({"by": text}), path
    ),
    "arrow": _arrow,
    "npy": lambda path, text: np.save(path.open("wb"), np.array([text])),
    "hexadecimal": lambda path, text: path.write_text(text.encode().hex()),
    **{
        f"base64 after {before}": lambda path, text, before=before: path.write_bytes(  # type: ignore[misc]
            base64.b64encode(b"x" * before + text.encode() + b"tail")
        )
        for before in range(3)
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_found_however_it_is_written(way: str, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    WAYS[way](tmp_path / "below" / "planted", PLANTED)
    WAYS[way](tmp_path / "other", "Zürich-7f3b/somebody else, of another length")
    assert files_with(tmp_path, "absent", PLANTED) == ["below/planted"]


def test_it_is_found_in_a_name(tmp_path: Path) -> None:
    (tmp_path / "of user_17.txt").touch()
    assert files_with(tmp_path, "user_17") == ["of user_17.txt"]
