"""Predictions whose next event is known, as arrays: what a check measures."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.files.data_only import data_only
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.predictor.artifact import Artifact
from behaviorlm_ray import storage
from behaviorlm_ray.prediction.folder import Summary
from behaviorlm_ray.prediction.plan import PREDICTIONS
from behaviorlm_ray.storage import Location

COLUMNS = ["user", "position", "behaviors", "probabilities", "actual", "actual_place"]
KEPT = "log_probabilities"


@dataclass(frozen=True)
class CheckedPositions:
    """n positions with enough history to be a target, by file.

    outcomes: what was predicted and what came. user: int64[n], a code. unseen: events by name of behaviors that the
    vocabulary does not hold. kept: of the positions `kept_places` int64[m], the log probabilities before calibration
    and any rule, float64[m, K].
    """

    outcomes: Outcomes
    user: NDArray[np.int64]
    unseen: dict[str, int]
    kept_places: NDArray[np.int64]
    kept: NDArray[np.float64]


def read_checked(folder: Location, summary: Summary, artifact: Artifact) -> CheckedPositions:
    """Those of a folder that is finished."""
    names = pa.array(artifact.names, pa.string())
    targets, predicted, places, confidence, users, kept = ([] for _ in range(6))
    kept_places: list[NDArray[np.int64]] = []
    unseen: dict[str, int] = {}
    codes: dict[str, int] = {}
    size = 0
    for file in summary.files:
        place = folder / PREDICTIONS / file
        table = _known(data_only(pq.ParquetFile(storage.local_copy(place)), place), artifact)
        targets.append(_ids(table["actual"], names))
        predicted.append(_ids(pc.list_element(table["behaviors"], 0), names))
        places.append(pc.fill_null(table["actual_place"], 0).to_numpy() - 1)
        confidence.append(pc.list_element(table["probabilities"], 0).to_numpy())
        users.append([codes.setdefault(user, len(codes)) for user in table["user"].to_pylist()])
        for name in table["actual"].filter(pa.array(targets[-1] < 0)).to_pylist():
            unseen[name] = unseen.get(name, 0) + 1
        if KEPT in table.column_names:
            chosen = np.flatnonzero(pc.is_valid(table[KEPT]).to_numpy())
            kept_places.append(chosen + size)
            kept.append(np.array(table[KEPT].take(pa.array(chosen)).to_pylist()).reshape(-1, len(names)))
        size += len(table)
    outcomes = Outcomes(
        _joined(targets, np.int32),
        _joined(predicted, np.int32),
        _joined(places, np.int32),
        _joined(confidence, np.float64),
        len(names),
    )
    every = np.concatenate([np.zeros((0, len(names))), *kept])
    return CheckedPositions(outcomes, _joined(users, np.int64), unseen, _joined(kept_places, np.int64), every)


def _known(file: pq.ParquetFile, artifact: Artifact) -> pa.Table:
    table = file.read([*COLUMNS, *({KEPT} & set(file.schema_arrow.names))])
    enough = pc.greater_equal(table["position"], artifact.prompt.min_history)
    return table.filter(pc.and_(enough, pc.is_valid(table["actual"])))


def _ids(values: pa.ChunkedArray, names: pa.Array) -> NDArray[np.int32]:
    found: NDArray[np.int32] = pc.fill_null(pc.index_in(values, value_set=names), -1).to_numpy()
    return found


def _joined(parts: list, kind: type) -> NDArray:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)
