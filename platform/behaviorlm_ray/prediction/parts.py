"""The tasks of a prediction: reading a file, predicting a part. What is done leaves its report; none is done twice."""

from collections import Counter
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.events.log import Piece, read_piece
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm_ray import storage
from behaviorlm_ray.prediction.plan import PREDICTIONS, OpenedModel, PredictionPlan, once
from behaviorlm_ray.prediction.positions import Timelines, timelines
from behaviorlm_ray.prediction.rows import rows
from behaviorlm_ray.preparation.reading import distribute, read_part

CHUNK = 8192
"""Predictions that are committed together: so many at most are lost with a process (our choice)."""


def read_task(index: int, plan: PredictionPlan) -> dict[str, Any]:
    """Read a file into the parts of its users, unless that was done."""
    piece = Piece(index, plan.log.files[index])

    def read() -> dict[str, Any]:
        return distribute(piece, read_piece(piece, plan.log.events), plan)

    return once(plan.progress / f"read-{index:06d}.json", read)


def predict_task(number: int, plan: PredictionPlan) -> dict[str, Any]:
    """Predict all positions of a part that are asked for, unless that was done.

    Returns users, events and rows, how many rows have each warning, and the files that hold them.
    """
    return once(plan.progress / f"part-{number:05d}.json", lambda: _predict(number, plan))


def _predict(number: int, plan: PredictionPlan) -> dict[str, Any]:
    events = read_part(number, plan)
    report: dict[str, Any] = {"users": 0, "events": 0, "rows": 0, "warnings": {}, "files": {}}
    if events is None:
        return report
    model = open_model(plan.model)
    lines = timelines(events, plan.log.events, plan.wanted, model.artifact)
    report |= {"users": lines.users, "events": len(lines.events)}
    warnings: Counter[str] = Counter()
    for chunk in count():
        chosen = np.arange(chunk * CHUNK, min(len(lines), (chunk + 1) * CHUNK))
        if not len(chosen):
            break
        name = f"part-{number:05d}-{chunk:05d}"
        told = _chunk(name, plan, model, lines, chosen)
        report["rows"] += told["rows"]
        report["files"] |= told["files"]
        warnings.update(told["warnings"])
    return report | {"warnings": dict(warnings)}


def _chunk(
    name: str, plan: PredictionPlan, model: BehaviorModel, lines: Timelines, chosen: NDArray[np.int64]
) -> dict[str, Any]:
    def make() -> dict[str, Any]:
        table = rows(model, lines, chosen, plan.log.events, plan.k, plan.kept_every)
        files = {}
        for folder, some in _partitioned(table, plan, model, name):
            path = f"{folder}{name}.parquet"
            with storage.writing_file(plan.folder / PREDICTIONS / path) as place:
                pq.write_table(some, place)
                files[path] = place.stat().st_size
        warnings = Counter(table["warnings"].combine_chunks().flatten().to_pylist())
        return {"rows": len(table), "files": files, "warnings": dict(warnings)}

    return once(plan.progress / f"{name}.json", make)


def _partitioned(
    table: pa.Table, plan: PredictionPlan, model: BehaviorModel, name: str
) -> list[tuple[str, pa.Table]]:
    """The rows by folder: "" for the one above all, else `key=value/`, of which values are plain."""
    if plan.partition_by == "nothing":
        return [("", table)]
    if plan.partition_by == "user":
        return [(f"user_hash={name.split('-')[1]}/", table)]
    values = table["group"]
    key = "group"
    if plan.partition_by == "behavior":
        key = "behavior_id"  # a name may hold anything
        first = pc.list_element(table["behaviors"], 0)
        values = pc.index_in(first, value_set=pa.array(model.artifact.names, pa.string()))
    else:
        table = table.drop_columns(["group"])  # its folder tells it
    return [
        (f"{key}={value}/", table.filter(pc.equal(values, value)))
        for value in sorted(pc.unique(values).to_pylist())
    ]


@lru_cache(maxsize=1)
def open_model(opened: OpenedModel) -> BehaviorModel:
    """The predictor, once in a process. Raises DataError where another lies there by now."""
    model = BehaviorModel.load(opened.place, base=opened.base, trust_remote_code=opened.trust_remote_code)
    if model.artifact.fingerprint != opened.fingerprint:
        raise DataError(
            f"{opened.place} holds another predictor than when the job began; put that one back, or start with "
            "another --to"
        )
    return model
