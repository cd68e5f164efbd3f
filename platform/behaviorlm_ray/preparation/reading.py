"""First pass of preparation: the log is read and normalized, and each event goes to the part of its user."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.events.facts import LogFacts, facts_of_rows
from behaviorlm.events.log import Piece
from behaviorlm.files.data_only import data_only
from behaviorlm.files.patient_reads import patience
from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm.timelines.sample_ids import text_hashes
from behaviorlm.timelines.splits import check_rows
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.log_source import Batches, write_quarantine
from behaviorlm_ray.preparation.plan import QUARANTINE, ReadingPlan
from behaviorlm_ray.storage import Location


class Distribution:
    """Takes the pieces of a log: each event goes to the part of its user.

    What comes of a piece is its report, as JSON.
    """

    def __init__(self, plan: ReadingPlan) -> None:
        self.plan = plan

    def __call__(self, piece: Piece, batches: Batches) -> Iterator[pa.Table]:
        report = reported({"piece": piece.name}, lambda: distribute(piece, batches, self.plan))
        yield pa.table({"report": [report]})


def reported(named: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> str:
    """What a task's work comes to, as JSON; an error of ours is a report too and reaches the user whole."""
    try:
        return json.dumps({**named, **work()})
    except (DataError, StorageError) as error:
        return json.dumps({**named, "error": str(error), "of_storage": isinstance(error, StorageError)})


def distribute(piece: Piece, batches: Batches, plan: ReadingPlan) -> dict[str, Any]:
    """Append each event of a piece to the part of its user, and write its quarantine."""
    with storage.writing(plan.scratch) as scratch, patience(plan.input_patience_seconds):
        report, quarantined = _distribute(piece, batches, plan, scratch)
    write_quarantine(plan.folder / QUARANTINE, piece, quarantined)
    return report


def check_zones(plan: ReadingPlan, pieces: Sequence[Piece], read: Sequence[dict[str, Any]]) -> None:
    """Over all files: what lies in one part must not decide whether a log is refused."""
    if not plan.log.events.order.has_time or plan.log.events.order.time_zone is not None:
        return
    first: dict[str, str] = {}
    for piece, report in zip(pieces, read, strict=True):
        for kind, row in report["zones"].items():
            first.setdefault(kind, f"{piece.file.path}, row {row}")
    if len(first) == 2:
        raise DataError(
            f"some times have a zone ({first['zoned']}) and some have none ({first['naive']}), so they cannot be put "
            "in order; set events.order.time_zone to the zone of those without"
        )


def read_part(number: int, plan: ReadingPlan) -> pa.Table | None:
    """The events of one part, in no order, or None: mapped where they are local, else received whole."""
    found = plan.scratch / f"{number:05d}"
    tables = [_read_stream(found / name) for name in storage.list_files(found)]
    if not tables:
        return None
    events = pa.concat_tables(tables)
    return events if "group" in events.column_names else events.append_column("group", events["user"])


def _read_stream(place: Location) -> pa.Table:
    source = pa.memory_map(str(place)) if isinstance(place, Path) else pa.py_buffer(storage.read_bytes(place))
    return data_only(pa.ipc.open_stream(source), place).read_all()


def _distribute(
    piece: Piece, batches: Batches, plan: ReadingPlan, scratch: Path
) -> tuple[dict[str, Any], list[pa.Table]]:
    """Write the events of a piece below `scratch`, by part. Returns the report and the rows that cannot be used."""
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    facts = LogFacts(files=int(piece.begins_file))
    quarantined: list[pa.Table] = []
    zones: dict[str, int] = {}
    for events, unusable in batches:
        zones = _first_rows_by_zone(events) | zones
        check_rows(events, piece.file.path, plan.split)
        facts += facts_of_rows(events, unusable)
        if len(unusable):
            quarantined.append(unusable)
        if plan.log.events.group is None:
            events = events.drop_columns(["group"])  # the user, which is read for it
        partition = parts_of_users(events["user"].combine_chunks(), plan.partitions)
        order = np.argsort(partition, kind="stable")
        ordered = events.combine_chunks().take(pa.array(order))
        found = np.unique(partition[order], return_index=True, return_counts=True)
        for number, begin, rows in zip(*(values.tolist() for values in found), strict=True):
            chosen = ordered.slice(begin, rows)
            if number not in writers:
                path = scratch / f"{number:05d}" / f"{piece.name}.arrows"
                path.parent.mkdir(exist_ok=True)
                writers[number] = pa.ipc.new_stream(str(path), chosen.schema)
            writers[number].write_table(chosen)
    for writer in writers.values():
        writer.close()
    return {"facts": facts.model_dump(mode="json"), "zones": zones}, quarantined


def _first_rows_by_zone(events: pa.Table) -> dict[str, int]:
    """The first row whose time carries a zone of its own ("zoned") and the first whose time does not ("naive")."""
    rows = {
        name: events["row"].filter(pc.equal(events["is_zoned"], flag))
        for name, flag in (("zoned", True), ("naive", False))
    }
    return {name: found[0].as_py() for name, found in rows.items() if len(found)}


def parts_of_users(users: pa.Array, partitions: int) -> NDArray[np.uint16]:
    """The part of each user, by a hash of what users that look alike have in common; uint16[n]."""
    encoded = users.dictionary_encode()
    hashed = text_hashes(look_alike_keys(encoded.dictionary))
    part = (hashed % np.uint64(partitions)).astype(np.uint16)
    return part[encoded.indices.to_numpy()]
