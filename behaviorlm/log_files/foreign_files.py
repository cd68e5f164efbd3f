"""Files that are something else than their name or the mapping says, told by their first bytes."""

import re

from behaviorlm.errors import DataError
from behaviorlm.files.unpacking import packing_of_bytes
from behaviorlm.log_files.source_files import SourceFile

_SIGNS = (
    (b"PAR1", "a Parquet file; set events.format: parquet, or rename it"),
    (b"ORC", "an ORC file; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet or JSON"),
    (b"ARROW1", "an Arrow file; write it as Parquet"),
    (b"SQLite format 3\0", "a SQLite file; write the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of old Excel; write the sheet as CSV"),
    (b"%PDF-", "a PDF file"),
)
_WEB_PAGE = re.compile(rb"\A\s*<(!doctype html|html|\?xml)", re.IGNORECASE)
_JSON_OBJECT = re.compile(rb'\A(?:\xef\xbb\xbf)?\s*\[?\s*\{\s*"[^"\n]*"\s*:')


def refuse_foreign(head: bytes, source: SourceFile) -> None:
    """Raise DataError where the first bytes of a CSV or JSON file, unpacked, are those of something else."""
    what = next((what for sign, what in _SIGNS if head.startswith(sign)), None)
    if what is None and packing_of_bytes(head) is not None:
        what = f"packed twice (by {packing_of_bytes(head)} inside); unpack it once"
    if what is None and _WEB_PAGE.match(head):
        what = "a web page or XML, perhaps what a server said instead of the file; fetch it again"
    if what is None and head[257:262] == b"ustar":
        what = "a tar archive; unpack it and name the folder"
    if what is not None:
        raise DataError(f"{source.path}: is {what}")
    if source.format == "csv" and _JSON_OBJECT.match(head):
        raise DataError(f"{source.path}: holds JSON objects; set events.format: jsonl, or rename it")
