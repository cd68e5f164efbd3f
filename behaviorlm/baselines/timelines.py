"""The log as plain arrays: what counting baselines are fitted on and asked about."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.timelines.splits import TRAIN

HISTORY_ONLY = -1
"""In place of a split."""


@dataclass(frozen=True)
class TimelineArrays:
    """All timelines one after another, one row per event, arrays of length N.

    behavior: int32, vocabulary index, -1 = unseen in training. user_start: int64, the row at which the row's
    timeline begins (its session, where histories do not cross them). is_target: bool. split: int8, 0 train,
    1 validation, 2 test, -1 history only: neither counted nor a sample. context: int32, which of `contexts`
    combinations of context known before the event it has (0 for a log without any). behaviors: size K of the
    vocabulary.
    """

    behavior: NDArray[np.int32]
    user_start: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    split: NDArray[np.int8]
    context: NDArray[np.int32]
    behaviors: int
    contexts: int = 1

    def target_rows(self, split: int) -> NDArray[np.int64]:
        """Rows of the samples of one split, in order."""
        return np.flatnonzero(self.is_target & (self.split == split))

    def training_rows(self) -> NDArray[np.int64]:
        """Rows whose behavior may be counted: every training event of a known behavior, target or not."""
        return np.flatnonzero((self.split == TRAIN) & (self.behavior >= 0))


def timeline_arrays(table: pa.Table, names: Sequence[str]) -> TimelineArrays:
    """Arrays of a whole log of timelines (columns user, position, behavior, split, is_target, `before.*`).

    `names` is the vocabulary in its order; the context is the combination of all `before.*` columns. Training,
    validation and test must come in one table, so that contexts agree. Raises DataError if timelines are torn
    apart or out of order.
    """
    behavior = pc.fill_null(pc.index_in(table["behavior"], value_set=pa.array(names, pa.string())), -1)
    position = table["position"].to_numpy()
    rows = np.arange(len(table), dtype=np.int64)
    start = np.maximum.accumulate(np.where(position == 0, rows, 0)) if len(rows) else rows
    user = pc.dictionary_encode(table["user"].combine_chunks()).indices.to_numpy(zero_copy_only=False)
    if not (np.array_equal(position, rows - start) and np.array_equal(user, user[start])):
        bad = int(np.flatnonzero((position != rows - start) | (user != user[start]))[0])
        raise DataError(
            f"row {bad} of the timelines: position {position[bad]} does not continue its user's timeline; "
            "timelines must be whole and in order"
        )
    if "session_position" in table.column_names:
        # Histories that do not cross sessions begin with them, for counting as for models.
        start = rows - table["session_position"].to_numpy()
    context, contexts = _context_codes(
        table, [name for name in table.column_names if name.startswith("before.")]
    )
    return TimelineArrays(
        behavior=behavior.to_numpy().astype(np.int32),
        user_start=start,
        is_target=table["is_target"].to_numpy(),
        split=table["split"].to_numpy().astype(np.int8),
        context=context,
        behaviors=len(names),
        contexts=contexts,
    )


def _context_codes(table: pa.Table, columns: Sequence[str]) -> tuple[NDArray[np.int32], int]:
    """One code per distinct combination of the columns' values; a missing value is a value of its own."""
    codes = np.zeros(len(table), np.int64)
    for column in columns:
        encoded = pc.dictionary_encode(table[column].combine_chunks(), null_encoding="encode")
        values = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = np.unique(codes * (len(encoded.dictionary) + 1) + values, return_inverse=True)[1]
    return codes.astype(np.int32), int(codes.max()) + 1 if len(codes) else 1
