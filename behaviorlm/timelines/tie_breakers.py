"""Which other columns of a log would put events in order that the order leaves equal: tried on its first rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from behaviorlm.errors import DataError
from behaviorlm.events.log import SourceLog
from behaviorlm.events.normalization import normalize
from behaviorlm.events.settling import Head, settle_order
from behaviorlm.log_files.columns import column_names
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA, SourceFile
from behaviorlm.timelines.ordering import directions, put_in_order, tie_warning
from behaviorlm.times.order import OrderColumn, OrderConfig

MOST_ROWS = 20_000
MOST_COLUMNS = 40
AS_CONTEXT = "after."
MUCH = 0.5
"""Share of the ties that a column must break to be named (our choice)."""


@dataclass(frozen=True)
class Trial:
    """An order that was tried: events that it leaves tied, and the share of neighbors in the files that follow it."""

    order: OrderConfig
    tied: int
    share_in_order: float


def warning_of_ties(log: SourceLog, counts: Mapping[str, int]) -> str | None:
    """`ordering.tie_warning` with columns that would help, for which the first rows are read; None: few ties."""
    if tie_warning(counts, log.events) is None:
        return None
    return tie_warning(counts, log.events, remedies(log))


def remedies(log: SourceLog) -> str:
    """What to write to break ties, as a sentence."""
    texts = _first_rows(log)
    if texts is None:
        return ""
    path, text = texts
    before = _tried(log.events, log.events.order, text, path)
    if before is None or not before.tied:
        return ""
    mapped = {log.events.user, log.events.behavior, *log.events.order.names}
    others = [name for name in text.column_names if name.startswith(AS_CONTEXT)]
    trials = []
    for role in others:
        name = role.removeprefix(AS_CONTEXT)
        if name in mapped:
            continue
        for order in _orders_with(log.events, name, text[role], path, text["row"]):
            trial = _tried(log.events, order, text, path)
            if trial is not None and trial.tied <= (1 - MUCH) * before.tied:
                trials.append(trial)
    if not trials:
        return "No other column of the log would put them in order"
    best = sorted(trials, key=lambda trial: (round(-trial.share_in_order, 2), trial.tied))[0]
    broken = before.tied - best.tied
    names = ", ".join(best.order.names)
    kinds = ", ".join(column.kind for column in best.order.columns)
    return (
        f"events.order: {{column: [{names}], kind: [{kinds}]}} would break {broken:,} of the {before.tied:,} among the "
        "first rows"
    )


def _first_rows(log: SourceLog) -> tuple[str, pa.Table] | None:
    """(path, first rows of the first file that has any, all its plain columns as text under context roles)."""
    for file in log.files:
        names = [
            name for name in dict.fromkeys(column_names(file, log.events)) if name != log.events.behavior
        ]
        known = list(dict.fromkeys([*log.events.context_after, *names]))[:MOST_COLUMNS]
        text = _read(file, log.events, known)
        if text is None:
            # Nested values are not read as text: only columns that are there alone stay.
            known = [name for name in known if _read(file, log.events, [name]) is not None]
            text = _read(file, log.events, known)
        if text is not None:
            return file.path, text
    return None


def _read(file: SourceFile, config: EventsConfig, names: list[str]) -> pa.Table | None:
    """The first rows with these columns; None where there are none, or most cannot be read so."""
    wide = config.model_copy(update={"context_after": names})
    try:
        for text, broken in islice(read_table_batches(file, wide, MOST_ROWS), 1):
            if text.num_rows > broken.num_rows:
                return text.slice(0, MOST_ROWS).combine_chunks()
    except DataError:
        return None
    return None


def _orders_with(
    config: EventsConfig, name: str, values: pa.ChunkedArray, path: str, rows: pa.ChunkedArray
) -> Iterator[OrderConfig]:
    """The order with a further column, as the first and as the last, of the first kind that reads it."""
    present = config.order.columns
    if config.order.time_format is not None and any(column.time_format for column in present):
        kinds: Sequence[str] = ("integer", "duration")  # a pattern for one column is none for another
    else:
        kinds = ("integer", "time", "duration")
    for kind in kinds:
        try:
            alone = OrderConfig.model_validate({"column": name, "kind": kind})
            head = Head(path, {"order": values.combine_chunks()}, rows.combine_chunks())
            settled, _ = settle_order(
                EventsConfig(dataset="x", paths=["x"], user="x", behavior="y", order=alone), [head]
            )
        except (DataError, ValueError):
            continue
        added = settled.order.columns[0]
        yield _joined(config.order, [*present, added])
        yield _joined(config.order, [added, *present])
        return


def _joined(order: OrderConfig, columns: Sequence[OrderColumn]) -> OrderConfig:
    return order.model_copy(
        update={
            "column": [column.name for column in columns],
            "kind": [column.kind for column in columns],
            "time_format": [column.time_format for column in columns],
            "epoch_unit": [column.epoch_unit for column in columns],
            "epoch": [column.epoch for column in columns],
        }
    )


def _tried(config: EventsConfig, order: OrderConfig, text: pa.Table, path: str) -> Trial | None:
    """The first rows in this order; None where it reads too few of them."""
    changed = config.model_copy(update={"order": order, "context_after": [], "max_tie_share": -1.0})
    by_name = {column.name: column.role for column in config.order.columns}
    roles = {column.role: by_name.get(column.name, AS_CONTEXT + column.name) for column in order.columns}
    columns = {name: text[name] for name in text.column_names if not name.startswith("order")}
    columns |= {role: text[source] for role, source in roles.items()}
    try:
        events, quarantined = normalize(pa.table(columns), QUARANTINE_SCHEMA.empty_table(), 0, path, changed)
    except DataError:
        return None
    if quarantined.num_rows > MUCH * text.num_rows or not events.num_rows:
        return None
    found = put_in_order(events.combine_chunks(), changed)
    steps = directions(events, found, changed)
    up, down = steps["ascending_rows"], steps["descending_rows"]
    return Trial(order, int(found.is_tied.sum()), max(up, down) / (up + down) if up + down else 0.0)
