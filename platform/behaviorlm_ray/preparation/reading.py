"""First pass of preparation: each log file is read and normalized, and each event goes to the part of its user."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from behaviorlm.events.facts import LogFacts, facts_of_rows
from behaviorlm.events.identity import look_alike_keys
from behaviorlm.events.normalization import normalize
from behaviorlm.events.reading import read_table_batches
from behaviorlm.files.patient_reads import patience
from behaviorlm.timelines.splits import check_rows
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.plan import QUARANTINE, PreparationPlan


def read_file(index: int, plan: PreparationPlan) -> dict[str, Any]:
    """Normalize one file and append each event to the part of its user."""
    with storage.writing(plan.scratch) as scratch, patience(plan.input_patience_seconds):
        report, quarantined = _distribute(index, plan, scratch)
    if quarantined:
        with storage.writing_file(plan.folder / QUARANTINE / f"file-{index:06d}.parquet") as path:
            pq.write_table(pa.concat_tables(quarantined), path)
    return report


def _distribute(index: int, plan: PreparationPlan, scratch: Path) -> tuple[dict[str, Any], list[pa.Table]]:
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
