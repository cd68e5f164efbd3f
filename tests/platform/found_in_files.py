"""Looking for a text in files, however it is written there: packed, in columns, escaped or encoded."""

import base64
import gzip
import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def files_with(folder: Path, *texts: str) -> list[str]:
    """The files below a folder in whose path or content any of the texts stands, by relative path, sorted."""
    needles = [needle for text in texts for needle in _forms(text)]
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and (any(text in path.name for text in texts) or _holds(path, needles))
    )


def _holds(path: Path, needles: list[bytes]) -> bool:
    return any(needle in content for content in _unpacked(path.name, path.read_bytes()) for needle in needles)


def _forms(text: str) -> Iterator[bytes]:
    """As it is, as JSON and NumPy write it, in hexadecimal, and in the three ways in which Base64 can contain it."""
    yield text.encode()
    yield json.dumps(text)[1:-1].encode()
    yield text.encode("utf-32-le")
    yield text.encode().hex().encode()
    for before in range(
        3
    ):  # what stands before it decides how its bits fall; the characters at both ends vary
        encoded = base64.b64encode(b"\0" * before + text.encode())
        yield encoded[4 * (before > 0) + (before > 0) : -4]


def _unpacked(name: str, content: bytes) -> Iterator[bytes]:
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield from _unpacked(name.removesuffix(".gz"), gzip.decompress(content))
    elif content.startswith(b"PK"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _unpacked(member, archive.read(member))
    elif content.startswith(b"PAR1"):
        yield from _columns(pq.read_table(BytesIO(content)))
    elif content.startswith(b"ARROW1"):
        yield from _columns(pa.ipc.open_file(BytesIO(content)).read_all())


def _columns(table: pa.Table) -> Iterator[bytes]:
    """All values, and what the file says about itself."""
    yield repr(table.schema.metadata).encode()
    for column in table.columns:
        values = column.to_pylist()
        yield repr(values).encode()
        yield json.dumps(values, default=str, ensure_ascii=False).encode()
        yield b"".join(value for value in values if isinstance(value, bytes))
