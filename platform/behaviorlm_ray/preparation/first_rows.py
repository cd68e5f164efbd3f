"""What the first rows of a log are like, read as preparation reads them: shown in a plan, before anything runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.events.config import EventsConfig
from behaviorlm.events.log import SourceLog
from behaviorlm.events.normalization import normalize
from behaviorlm.events.reading import read_table_batches

MOST_ROWS = 100_000
"""Rows of a log that a plan looks at (our choice): enough to show a wrong mapping, and read within a second."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a log, over its files in their order.

    are_all: whether the log ends with them. span: lowest and highest order of usable rows, as in `normalize`; None
    without any. reasons: rows that cannot be used, by reason.
    """

    rows: int
    are_all: bool
    users: int
    span: tuple[int, int] | None
    reasons: Mapping[str, int]


def read_first_rows(log: SourceLog, most: int = MOST_ROWS) -> FirstRows:
    """Read at most `most` rows. Raises DataError where preparation would for one of them."""
    rows, are_all = 0, True
    users = pa.array([], pa.string())
    orders: list[int] = []
    reasons: Counter[str] = Counter()
    batches = (
        (index, file.path, *batch)
        for index, file in enumerate(log.files)
        for batch in read_table_batches(file, log.events, most)
    )
    for index, path, text, broken in batches:
        raw, malformed = _first(text, broken, most - rows)
        usable, unusable = normalize(raw, malformed, index, path, log.events)
        rows += len(usable) + len(unusable)
        users = pc.unique(pa.concat_arrays([users, *usable["user"].chunks]))
        reasons.update(_counts(unusable["reason"]))
        if len(usable):
            orders += pc.min_max(usable["order"]).as_py().values()
        are_all = len(raw) + len(malformed) == len(text) + len(broken)
        if not are_all:
            break
    span = (min(orders), max(orders)) if orders else None
    return FirstRows(rows, are_all, len(users), span, reasons)


def described(first: FirstRows, events: EventsConfig) -> list[str]:
    """The first rows in at most two lines."""
    span = ""
    if first.span is not None and events.order.kind == "time":
        begin, end = (
            str(np.datetime64(order, "us").astype("M8[m]")).replace("T", " ") for order in first.span
        )
        span = f", {begin} to {end} UTC"
    elif first.span is not None:
        span = f", order {first.span[0]} to {first.span[1]}"
    lines = [f"of {'all' if first.are_all else 'the first'} {first.rows:,} rows: {first.users:,} users{span}"]
    if first.reasons:
        listed = ", ".join(f"{reason}: {number:,}" for reason, number in Counter(first.reasons).most_common())
        lines.append(f"{sum(first.reasons.values()):,} of these cannot be used ({listed})")
    return lines


def _first(raw: pa.Table, malformed: pa.Table, most: int) -> tuple[pa.Table, pa.Table]:
    """Those of a batch that are among its first `most` rows."""
    numbers = np.concatenate([raw["row"].to_numpy(), malformed["row"].to_numpy()])
    if len(numbers) <= most:
        return raw, malformed
    end = np.partition(numbers, most)[most]
    return raw.filter(pc.less(raw["row"], end)), malformed.filter(pc.less(malformed["row"], end))


def _counts(reasons: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(reasons).to_pylist()}
