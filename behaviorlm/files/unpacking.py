"""Packed files: told by their first bytes, unpacked while they are read."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa

from behaviorlm.files.input_files import open_bytes


class PackingError(OSError):
    """A file cannot be unpacked; the message begins with its path."""


PACKINGS = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".zstd": "zstd", ".xz": "xz", ".zip": "zip"}
"""How a file is packed, by the last suffix of its name."""
_MAGIC_BYTES = 10


def packing_of(path: str) -> str | None:
    """How the name says that a file is packed; None for not at all."""
    return PACKINGS.get(PurePosixPath(path).suffix.lower())


def without_packing(path: str) -> str:
    """The path without the suffix that says how it is packed."""
    return path[: -len(PurePosixPath(path).suffix)] if packing_of(path) else path


def packing_of_bytes(head: bytes) -> str | None:
    """How the first bytes of a file say that it is packed."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return None


@contextmanager
def open_unpacked(path: str) -> Iterator[IO[bytes]]:
    """Open a local file or an object for reading what is packed in it, or as it is where nothing is packed.

    The first bytes decide. Raises OSError, as PackingError for what is damaged, for a name that promises a packing
    which is not there, and for a zip file with more than one file in it.
    """
    with open_bytes(path) as stored:
        assert isinstance(stored, io.BufferedReader)
        head = stored.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
        packing = packing_of_bytes(head)
        named = packing_of(path)
        if packing is None and named is not None and head:
            raise PackingError(
                f"{path}: its name says {named}, but it is not a {named} file (it begins with {head[:8]!r}); rename it "
                "or fetch it again"
            )
        if packing is None:
            yield stored
            return
        try:
            with _unpacked(stored, packing, path) as unpacked:
                yield unpacked
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            if isinstance(error, PackingError) or (
                isinstance(error, OSError) and not _tells_of_damage(error)
            ):
                raise
            raise _damaged(path, packing, error) from None


def packed_name(path: str) -> str:
    """The name of the only file in a zip file. Raises OSError, as PackingError for none or several."""
    with open_bytes(path) as stored:
        try:
            return _only_member(zipfile.ZipFile(stored), path).filename
        except zipfile.BadZipFile as error:
            raise _damaged(path, "zip", error) from None


@contextmanager
def _unpacked(stored: IO[bytes], packing: str, path: str) -> Iterator[IO[bytes]]:
    if packing == "zip":
        with zipfile.ZipFile(stored) as archive:
            member = _only_member(archive, path)
            try:
                with archive.open(member) as unpacked:
                    yield unpacked
            except NotImplementedError as error:
                raise PackingError(f"{path}: {member.filename} cannot be unpacked ({error})") from None
    elif packing == "zstd":
        with pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd") as unpacked:
            yield unpacked
    else:
        reader: Any = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[packing]
        with reader(stored, "rb") as unpacked:
            yield unpacked


def _only_member(archive: zipfile.ZipFile, path: str) -> zipfile.ZipInfo:
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not PurePosixPath(info.filename).name.startswith(".")
    ]
    if len(members) != 1:
        names = ", ".join(info.filename for info in members[:10]) + (", …" if len(members) > 10 else "")
        raise PackingError(
            f"{path}: a zip file is read where it holds one file; this one holds {len(members)}"
            f"{f' ({names})' if members else ''}; unpack it and name the folder"
        )
    if members[0].flag_bits & 1:
        raise PackingError(f"{path}: {members[0].filename} in it is encrypted; unpack it")
    return members[0]


def _tells_of_damage(error: OSError) -> bool:
    """Whether it comes from unpacking: bzip2 and Arrow's zstd have no error of their own for that."""
    return isinstance(error, gzip.BadGzipFile) or any(
        words in str(error) for words in ("Invalid data stream", "Truncated compressed stream", "ZSTD")
    )


def _damaged(path: str, packing: str, error: Exception) -> PackingError:
    return PackingError(
        f"{path}: a {packing} file that ends too early or is damaged ({error}); fetch or write it again"
    )
