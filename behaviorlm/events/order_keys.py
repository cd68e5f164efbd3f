"""What puts the events of a batch in order: each column of the order as whole numbers, and what cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.log_files.identity import is_missing
from behaviorlm.log_files.parquet_text import as_text
from behaviorlm.times.durations import read_durations
from behaviorlm.times.exact_numbers import read_integers
from behaviorlm.times.moments import Times, read_times
from behaviorlm.times.order import OrderColumn, OrderConfig

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
WHAT = {"time": "time", "integer": "order", "duration": "duration"}


@dataclass(frozen=True)
class OrderKeys:
    """keys: int64 [n] by name, see `key_names`. times: by role, of the columns that are times. problems: (reason,
    bool [n], text) of what cannot be read.
    """

    keys: Mapping[str, Int64]
    times: Mapping[str, Times]
    problems: list[tuple[str, Bool, pa.Array]]


def key_names(order: OrderConfig) -> list[str]:
    """The columns of events that put them in order, the first counts most.

    Of a time or a duration there are two: whole microseconds, and what is below one in its 10^18th parts.
    """
    names = []
    for column in order.columns:
        names.append(column.role)
        if column.kind != "integer":
            names.append(remainder_name(column.role))
    return names


def remainder_name(role: str) -> str:
    """The column with what is below a microsecond."""
    return f"{role}_remainder"


def read_order_keys(
    columns: Mapping[str, pa.Array],
    order: OrderConfig,
    null_values: Sequence[str],
    rows: pa.Array,
    path: str,
) -> OrderKeys:
    """Read the order's columns, text or timestamps, by role. rows: int64 [n], their numbers in the file `path`, for
    messages.

    Raises DataError for a whole number that needs more than 64 bits with a sign: dropping it would drop the newest.
    """
    keys: dict[str, Int64] = {}
    all_times: dict[str, Times] = {}
    problems = []
    for column in order.columns:
        text = columns[column.role]
        trimmed = text if pa.types.is_timestamp(text.type) else pc.utf8_trim_whitespace(text)
        what = WHAT[column.kind] + (f" in {column.name}" if column.role != "order" else "")
        if column.kind == "integer":
            keys[column.role], readable, beyond = read_integers(trimmed)
            _refuse_beyond(beyond, text, column, rows, path)
        elif column.kind == "duration":
            keys[column.role], keys[remainder_name(column.role)], readable = read_durations(
                trimmed, column.time_format
            )
        else:
            times = read_times(trimmed, column)
            keys[column.role], keys[remainder_name(column.role)] = times.utc, times.remainder
            readable = times.is_readable
            all_times[column.role] = times
        problems.append((f"empty {what}", _is_missing(text, readable, null_values), text))
        problems.append((f"unreadable {what}", ~readable, text))
        if column.kind == "time" and not times.is_in_range.all():
            problems.append((f"{what} out of range", ~times.is_in_range, text))
    return OrderKeys(keys, all_times, problems)


def _is_missing(text: pa.Array, readable: Bool, null_values: Sequence[str]) -> Bool:
    """bool[n]: nothing, or a text that stands for it."""
    # Nothing that can be read is among the texts that stand for nothing by default.
    asked = np.arange(len(text)) if list(null_values) != ["\\N"] else np.flatnonzero(~readable)
    missing = np.zeros(len(text), dtype=bool)
    missing[asked] = np.asarray(is_missing(as_text(text.take(pa.array(asked))), null_values))
    return missing


def _refuse_beyond(beyond: Bool, text: pa.Array, column: OrderColumn, rows: pa.Array, path: str) -> None:
    found = np.flatnonzero(beyond)
    if len(found):
        index = int(found[0])
        raise DataError(
            f"{path}, row {rows[index]}: {text[index].as_py()!r} in {column.name!r} (events.order.column) is above "
            "9223372036854775807, the largest whole number of 64 bits with a sign; subtract a constant from all, or "
            "give the number as two columns (its digits above and below 10^9: events.order.column: [high, low])"
        )
