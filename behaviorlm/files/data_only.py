"""Files that are nothing but data: what a column calls an object of Python is not read, for that would run it."""

from typing import Any, TypeVar

import pyarrow as pa

from behaviorlm.errors import DataError

OpenedT = TypeVar("OpenedT")


def data_only(opened: OpenedT, path: object) -> OpenedT:
    """An opened Parquet or Arrow file, if all its columns are plain. path: for the message. Raises DataError.

    Libraries teach Arrow types of their own by name. Ray's for objects unpickles what any file gives that name to, as
    soon as a value is looked at; so no type is taken that Arrow does not bring itself.
    """
    file: Any = opened
    schema: pa.Schema = file.schema_arrow if hasattr(file, "schema_arrow") else file.schema
    for field in schema:
        if _has_foreign(field.type):
            raise DataError(
                f"{path}: the column {field.name!r} holds objects of type {field.type}, and reading them could run "
                "code; write it as text, numbers or lists of these"
            )
    return opened


def _has_foreign(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.ExtensionType):  # those that Arrow brings, such as UUIDs, are of another class
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _has_foreign(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _has_foreign(kind.value_type)
    return any(_has_foreign(kind.field(number).type) for number in range(kind.num_fields))
