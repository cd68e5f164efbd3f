"""predictions.parquet: what every predictor says of every test sample, for metrics of one's own."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.metrics.score_batches import Kept
from behaviorlm.scoring.model_names import PLAIN, RULES
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, gather, group_codes

ROWS = 65_536
"""Written at a time."""
SCHEMA = pa.schema(
    [
        ("sample_id", pa.binary(16)),
        ("group", pa.string()),
        ("is_repeat", pa.bool_()),
        ("predictor", pa.string()),
        ("target", pa.string()),
        ("target_group", pa.string()),
        ("target_probability", pa.float64()),
        ("target_place", pa.int32()),
        *((f"chosen_{rule}", pa.string()) for rule in RULES),
        ("top", pa.list_(pa.string())),
        ("top_probabilities", pa.list_(pa.float64())),
    ]
)


class PredictionTable:
    """The file while it is written, predictor by predictor."""

    def __init__(self, path: Path, log: PreparedLog, test: SampleRows) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._names = pa.array([*log.vocabulary.names, None], pa.string())  # -1, the unseen, reads the last
        self._is_anchor = np.append(log.vocabulary.is_anchor, False)
        names, code = group_codes(log, test)
        hashes = [hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in names.to_pylist()]
        self._group = pa.array(hashes, pa.string()).take(pa.array(code))
        self._sample_id = gather(log, test, "sample_id")
        self._is_repeat = gather(log, test, "is_repeat")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, predictor: str, kept: Kept) -> None:
        """One row a test sample, in the order of the samples."""
        for start in range(0, len(kept.outcomes), ROWS):
            rows = slice(start, start + ROWS)
            self._writer.write_table(pa.table(self._columns(predictor, kept, rows), schema=SCHEMA))

    def _columns(self, predictor: str, kept: Kept, rows: slice) -> dict[str, pa.Array]:
        target, summary = kept.outcomes.target[rows], kept.summary
        forms = {PLAIN: kept.outcomes, **kept.forms}
        normalizer = summary.log_normalizer[rows]
        top = summary.top[rows]
        places = pa.array(np.arange(len(top) + 1, dtype=np.int32) * top.shape[1])
        ids = self._sample_id[rows]
        nothing = pa.nulls(len(target), pa.string())
        unseen = target < 0
        probability = np.exp(summary.target_score[rows] - normalizer)
        return {
            "sample_id": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids).tobytes())]
            ),
            "group": self._group.slice(start := rows.start, len(target)),
            "is_repeat": pa.array(self._is_repeat[start : start + len(target)]),
            "predictor": pa.repeat(pa.scalar(predictor), len(target)),
            "target": self._named(target),
            "target_group": pa.array(np.where(self._is_anchor[target], "anchor", "tail")),
            "target_probability": pa.array(probability, mask=unseen),
            "target_place": pa.array(kept.outcomes.rank[rows] + 1, pa.int32(), mask=unseen),
            **{
                f"chosen_{rule}": self._named(forms[rule].predicted[rows]) if rule in forms else nothing
                for rule in RULES
            },
            "top": pa.ListArray.from_arrays(places, self._named(top.ravel())),
            "top_probabilities": pa.ListArray.from_arrays(
                places, pa.array(np.exp(summary.top_scores[rows] - normalizer[:, None]).ravel())
            ),
        }

    def _named(self, ids: NDArray[np.int32]) -> pa.Array:
        return self._names.take(pa.array(np.where(ids < 0, len(self._names) - 1, ids)))
