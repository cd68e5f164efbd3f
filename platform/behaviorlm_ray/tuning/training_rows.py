"""Which samples of a prepared log a tuning is on; needed to plan one, so without the libraries that tune."""

from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from behaviorlm.files.data_only import data_only
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.timelines.sample_ids import id_octets, id_words, uniform_keys
from behaviorlm.training.packs import Batching
from behaviorlm.trees.closed_trie import ClosedTrie, build_closed_trie
from behaviorlm.trees.label_trie import UNCUT
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
from behaviorlm_ray.tuning.config import KeepTail, TuningConfig

TrainingSamples = Literal["all", "anchors", "selected"]

_SALT = 0x7A11
"""Sets this draw apart from a random selection and from halves with the same seed."""


def batching_of(config: TuningConfig) -> Batching:
    """How a tuning cuts its samples into steps and packs."""
    return Batching(
        config.samples_per_step,
        config.max_samples_per_timeline_per_step,
        config.max_tokens,
        config.epochs,
        config.max_steps,
        config.seed,
    )


def held_rows(log: PreparedLog, keep: KeepTail) -> SampleRows:
    """The samples of A-Tuning that are held to the base: a share of them, by their ids and the seed."""
    rows = training_rows(log, "anchors", None, None)
    chosen = []
    for part, of_part in zip(log.parts, rows, strict=True):
        keys = uniform_keys(*id_words(part.sample_id[of_part]), keep.seed + _SALT)
        chosen.append(of_part[keys.astype(np.float64) < keep.share * 2.0**64])
    return chosen


def tail_trie(log: PreparedLog) -> ClosedTrie:
    """What hangs, whole, below the prompt of each sample that is held."""
    tail = np.flatnonzero(~log.vocabulary.is_anchor)
    return build_closed_trie(labels_with_terminator(log.prompt), UNCUT).among(tail)


def kept_tokens(log: PreparedLog, keep: KeepTail | None) -> int:
    """How many tokens that are for each sample that is held; 0 without two tail behaviors, as none is held then."""
    tail = int((~log.vocabulary.is_anchor).sum())
    return 0 if keep is None or tail < 2 else tail_trie(log).nodes


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
        ids = data_only(pq.ParquetFile(storage.local_copy(selection)), selection).read()["sample_id"]
        rows = rows_of_ids(log, rows, id_octets(ids))
    return rows if half is None else rows_of_half(log, rows, half)
