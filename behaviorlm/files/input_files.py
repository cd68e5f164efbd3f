"""Files from outside that a run reads: local ones, or s3://bucket/key through Arrow's file system.

Endpoint, region and credentials of S3 are those of AWS tools (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, …).
What passes is waited for, see `patient_reads`; a StorageError is raised when patience ends.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs

from behaviorlm.files.patient_reads import PatientObject, patiently

S3 = "s3://"
QUICK_ATTEMPTS = 3
"""Tries of a request that Arrow makes by itself within seconds; after them come ours."""
READ_BYTES = 8 << 20
"""What a stream from S3 reads at once: each read is a request."""
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0


def is_on_s3(path: str) -> bool:
    """Whether a path names something on S3."""
    return path.startswith(S3)


def find_on_s3(
    pattern: str, is_wanted: Callable[[str], bool], in_other_case: Callable[[str], object] | None = None
) -> dict[str, int]:
    """Sizes in bytes of an object, of everything below a prefix, or of what a glob matches, by s3:// path, sorted.

    `*` and `?` stay within a part of the key, `**` does not; a glob may match prefixes, too. Below a prefix only what
    `is_wanted` and has no hidden name (`.` or `_` in front) is found. in_other_case: called with each object that the
    glob would match if it took no heed of case. Raises OSError.
    """
    bucket, _, key = pattern.removeprefix(S3).partition("/")
    parts = key.rstrip("/").split("/")
    while parts[-1:] == ["**"]:
        parts.pop()
    first_wild = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
    base = "/".join([bucket, *filter(None, parts[:first_wild])])
    if first_wild == len(parts) and base != bucket:
        info = patiently("find", pattern, lambda: _file_system(bucket).get_file_info(base))
        if info.type == pa.fs.FileType.File:
            return {f"{S3}{base}": info.size}
    wild = "".join(_expression(part) for part in parts[first_wild:])
    matcher, any_case = re.compile(wild + r"(.*/)?\Z"), re.compile(wild + r"\Z", re.IGNORECASE)
    found = {}
    for path, size in _below(base):
        match = matcher.match(path.removeprefix(f"{S3}{base}/") + "/")
        below = (match.group(1) or "").rstrip("/") if match else ""
        is_direct = match is not None and not below
        if is_direct or (below and is_wanted(path) and not _is_hidden(below)):
            found[path] = size
        elif match is None and in_other_case and any_case.match(path.removeprefix(f"{S3}{base}/") + "/"):
            in_other_case(path)
    return found


@contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """Open a local file or an object for reading bytes. Raises OSError."""
    if is_on_s3(path):
        with io.BufferedReader(_patient_object(path), READ_BYTES) as stored:
            yield stored
    else:
        with open(path, "rb") as stored:
            yield stored


def open_random_access(path: str) -> Any:
    """What Arrow's readers take: a local path as it is, an object as an open file. Raises OSError."""
    if not is_on_s3(path):
        return path
    return pa.PythonFile(_patient_object(path), mode="r")


def _patient_object(path: str) -> PatientObject:
    inside = path.removeprefix(S3)
    return PatientObject(path, lambda: _file_system(inside.partition("/")[0]).open_input_file(inside))


def _below(folder: str) -> list[tuple[str, int]]:
    selector = pa.fs.FileSelector(folder, allow_not_found=True, recursive=True)
    bucket = folder.partition("/")[0]
    found = patiently("list", f"{S3}{folder}", lambda: _file_system(bucket).get_file_info(selector))
    return sorted((f"{S3}{info.path}", info.size) for info in found if info.type == pa.fs.FileType.File)


def _is_hidden(below: str) -> bool:
    return any(part[:1] in (".", "_") for part in below.split("/"))


def _expression(part: str) -> str:
    """A part of a glob as a regular expression; as in a shell, wild signs do not stand for a dot in front."""
    if part == "**":
        return r"(?:[^./][^/]*/)*"
    wild = {"*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*|\?|\[!?[^\]]+\])", part)  # odd ones are wild
    text = "".join(
        wild.get(piece, piece.replace("[!", "[^")) if number % 2 else re.escape(piece)
        for number, piece in enumerate(pieces)
    )
    return ("" if part.startswith(".") else r"(?!\.)") + text + "/"


def _file_system(bucket: str) -> pa.fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _connected(os.getpid(), bucket, endpoint, region)


@lru_cache(maxsize=8)
def _connected(process: int, bucket: str, endpoint: str | None, region: str | None) -> pa.fs.S3FileSystem:
    if region is None and endpoint is None:
        region = pa.fs.resolve_s3_region(bucket)
    return pa.fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=pa.fs.AwsStandardS3RetryStrategy(max_attempts=QUICK_ATTEMPTS),
    )
