"""Which samples of a prepared log a tuning is on; needed to plan one, so without the libraries that tune."""

from typing import Literal

import pyarrow.parquet as pq

from behaviorlm.timelines.sample_ids import id_octets
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    rows_of_anchors,
    rows_of_half,
    rows_of_ids,
    rows_of_split,
)
from behaviorlm_ray.storage import Location

TrainingSamples = Literal["all", "anchors", "selected"]


def training_rows(
    log: PreparedLog, samples: TrainingSamples, half: int | None, selection: Location | None
) -> SampleRows:
    """The training samples of a tuning run."""
    rows = rows_of_split(log, "train")
    if samples == "anchors":
        log.vocabulary.require_anchors()
        rows = rows_of_anchors(log, rows)
    if samples == "selected":
        assert selection is not None
        ids = pq.read_table(storage.local_copy(selection))["sample_id"]
        rows = rows_of_ids(log, rows, id_octets(ids))
    return rows if half is None else rows_of_half(log, rows, half)
