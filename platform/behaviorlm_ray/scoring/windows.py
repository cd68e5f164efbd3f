"""The windows that are scored, by the million: in arrays, and as the batches that replicas take."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.kept_scores import Window

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Window w: `rows[starts[w]:starts[w + 1]]` of `part[w]`; int64, starts [windows + 1]."""

    part: Int64
    starts: Int64
    rows: Int64

    def __len__(self) -> int:
        return len(self.part)

    def named(self) -> Iterator[Window]:
        """Each as it is named in files of scores."""
        rows = self.rows
        for part, start, stop in zip(self.part.tolist(), self.starts[:-1], self.starts[1:], strict=True):
            yield part, tuple(rows[start:stop].tolist())

    def chosen(self, is_chosen: NDArray[np.bool_]) -> "Windows":
        """Some of them."""
        sizes = np.diff(self.starts)
        starts = np.append(0, np.cumsum(sizes[is_chosen]))
        return Windows(self.part[is_chosen], starts, self.rows[np.repeat(is_chosen, sizes)])


def windows_of(log: PreparedLog, rows: SampleRows) -> Windows:
    """The chosen samples by the windows that they share."""
    parts, starts, there = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for number, (part, chosen) in enumerate(zip(log.parts, rows, strict=True)):
        if len(chosen):
            begin = part.window_start[chosen]
            first = np.flatnonzero(np.append(True, begin[1:] != begin[:-1]))
            parts.append(np.full(len(first), number, np.int64))
            starts.append(first + there)
            there += len(chosen)
    every = np.concatenate([np.zeros(0, np.int64), *rows])
    return Windows(np.concatenate(parts), np.append(np.concatenate(starts), there), every)


def batch_table(windows: Windows, batch: Int64) -> pa.Table:
    """Windows that a replica takes together, as one row: Ray Data does not cut it, and joins it to no other.

    batch: of each window, ascending. Columns part list<int64>, rows list<list<int64>>.
    """
    first = np.flatnonzero(np.append(True, batch[1:] != batch[:-1]))
    offsets = pa.array(np.append(first, len(batch)).astype(np.int32))
    rows = pa.ListArray.from_arrays(pa.array(windows.starts.astype(np.int32)), pa.array(windows.rows))
    return pa.table(
        {
            "part": pa.ListArray.from_arrays(offsets, pa.array(windows.part)),
            "rows": pa.ListArray.from_arrays(offsets, rows),
        }
    )
