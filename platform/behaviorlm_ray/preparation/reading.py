"""First pass of preparation: each log file is read and normalized, and each event goes to the part of its user."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts, facts_of_rows
from behaviorlm.events.identity import look_alike_keys
from behaviorlm.events.normalization import normalize
from behaviorlm.events.reading import read_table_batches
from behaviorlm.files.patient_reads import patience
from behaviorlm.timelines.splits import check_rows
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.plan import QUARANTINE, ReadingPlan
from behaviorlm_ray.storage import Location


def read_file(index: int, plan: ReadingPlan) -> dict[str, Any]:
    """Normalize one file and append each event to the part of its user."""
    with storage.writing(plan.scratch) as scratch, patience(plan.input_patience_seconds):
        report, quarantined = _distribute(index, plan, scratch)
    if quarantined:
        with storage.writing_file(plan.folder / QUARANTINE / f"file-{index:06d}.parquet") as path:
            pq.write_table(pa.concat_tables(quarantined), path)
    return report


def check_zones(plan: ReadingPlan, read: Sequence[dict[str, Any]]) -> None:
    """Over all files: what lies in one part must not decide whether a log is refused."""
    if plan.log.events.order.kind != "time" or plan.log.events.order.time_zone is not None:
        return
    first: dict[str, str] = {}
    for file, report in zip(plan.log.files, read, strict=True):
        for kind, row in report["zones"].items():
            first.setdefault(kind, f"{file.path}, row {row}")
    if len(first) == 2:
        raise DataError(
            f"some times have a zone ({first['zoned']}) and some have none ({first['naive']}), so they cannot be put "
            "in order; set events.order.time_zone to the zone of those without"
        )


def read_part(number: int, plan: ReadingPlan) -> pa.Table | None:
    """The events of one part, in no order, or None: mapped where they are local, else received whole."""
    found = plan.scratch / f"{number:05d}"
    tables = [_read_stream(found / name) for name in storage.list_files(found)]
    return pa.concat_tables(tables) if tables else None


def _read_stream(place: Location) -> pa.Table:
    source = pa.memory_map(str(place)) if isinstance(place, Path) else pa.py_buffer(storage.read_bytes(place))
    return pa.ipc.open_stream(source).read_all()


def _distribute(index: int, plan: ReadingPlan, scratch: Path) -> tuple[dict[str, Any], list[pa.Table]]:
    """Write the events of a file below `scratch`, by part. Returns the report and the rows that cannot be used."""
    file = plan.log.files[index]
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    facts = LogFacts(files=1)
    quarantined: list[pa.Table] = []
    zones: dict[str, int] = {}
    for raw, malformed in read_table_batches(file, plan.log.events):
        events, unusable = normalize(raw, malformed, index, file.path, plan.log.events)
        zones = _first_rows_by_zone(events) | zones
        check_rows(events, file.path, plan.split)
        facts += facts_of_rows(events, unusable)
        if len(unusable):
            quarantined.append(unusable)
        partition = _partition_of(events["user"].combine_chunks(), plan.partitions)
        for number in np.unique(partition).tolist():
            chosen = events.filter(pa.array(partition == number))
            if number not in writers:
                path = scratch / f"{number:05d}" / f"{index:06d}.arrows"
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


def _partition_of(users: pa.Array, partitions: int) -> np.ndarray:
    """The part of each user, by a hash of what users that look alike have in common; int64 [n]."""
    encoded = users.dictionary_encode()
    digests = [
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % partitions
        for key in look_alike_keys(encoded.dictionary).to_pylist()
    ]
    return (
        np.array(digests, dtype=np.int64)[encoded.indices.to_numpy()]
        if digests
        else np.zeros(0, dtype=np.int64)
    )
