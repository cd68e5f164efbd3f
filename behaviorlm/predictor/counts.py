"""Back-off counts as an artifact keeps them: with room for unknown contexts, in Arrow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines.levels import CONTEXT, LevelCounts, state_blocks
from behaviorlm.baselines.markov import Markov, fit_markov
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.errors import DataError
from behaviorlm.files.data_only import data_only
from behaviorlm.files.scratch import ScratchColumn
from behaviorlm.log_files.text import one_chunk
from behaviorlm.predictor.artifact import CONTEXTS, COUNTS
from behaviorlm.timelines.splits import TRAIN

ORDER = 3

PRIOR_LEVEL = -1
_SCHEMA = pa.schema(
    [
        ("level", pa.int32()),
        ("key", pa.int64()),
        ("trust", pa.float64()),
        ("behaviors", pa.list_(pa.int32())),
        ("counts", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class Counts:
    """Counting, ready to be asked.

    columns: the context's, `before.*`. contexts: the code of each combination of values that is known; all others have
    the code `unknown_context`.
    """

    markov: Markov
    columns: tuple[str, ...]
    contexts: dict[tuple[str | None, ...], int]
    unknown_context: int

    @property
    def order(self) -> int:
        """Past behaviors that are looked at."""
        return max(level.added for level in self.markov.levels)

    def context_codes(self, events: pa.Table) -> NDArray[np.int32]:
        """The code of each row's context, int32[n]. Columns that are not there are unknown."""
        missing = pa.nulls(len(events), pa.string())
        values = [
            (events[name] if name in events.column_names else missing).to_pylist() for name in self.columns
        ]
        rows = zip(*values, strict=True) if values else [()] * len(events)
        return np.array([self.contexts.get(row, self.unknown_context) for row in rows], np.int32)

    def log_probabilities(
        self, pasts: Sequence[Sequence[int] | NDArray[np.integer]], contexts: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """float32[n, K] after each past: ids of behaviors, the latest last, -1 for unknown ones."""
        recent = [np.asarray(past[-self.order :], np.int32) for past in pasts]
        sizes = np.array([len(past) + 1 for past in recent], np.int64)
        ends = np.cumsum(sizes)
        rows = ends - 1
        total = int(sizes.sum())
        behavior = np.full(total, -1, np.int32)
        # the row itself is what is asked for
        behavior[np.setdiff1d(np.arange(total), rows)] = np.concatenate([np.zeros(0, np.int32), *recent])
        context = np.full(total, self.unknown_context, np.int32)
        context[rows] = contexts
        timelines = TimelineArrays(
            behavior=behavior,
            user_start=np.repeat(ends - sizes, sizes),
            is_target=np.zeros(total, bool),
            split=np.full(total, TRAIN, np.int8),
            context=context,
            behaviors=len(self.markov.prior),
            contexts=self.unknown_context + 1,
        )
        return self.markov.predict(timelines, rows)


def fit_counts(timelines: TimelineArrays, columns: Sequence[str], markov: Markov | None = None) -> Counts:
    """Back-off counting over the last three behaviors, and over the context where the log has any.

    columns: of the context. Weights are chosen on validation. markov: the same counting where it is fitted already.
    """
    with_context = timelines.contexts > 1
    known = {values: code for code, values in enumerate(timelines.context_values)} if with_context else {}
    if markov is None:
        markov = fit_markov(timelines, ORDER, use_context=with_context)
    levels = tuple(_with_room(level, timelines.contexts) for level in markov.levels)
    roomy = replace(markov, levels=levels)
    return Counts(roomy, tuple(columns) if with_context else (), known, timelines.contexts)


def _with_room(level: LevelCounts, contexts: int) -> LevelCounts:
    """Its keys where there is one context more, for what is unknown."""
    if level.added != CONTEXT or level.base < 0:
        return level
    keys = ScratchColumn(np.int64)
    for states in state_blocks(level):
        block = level.keys[states]
        keys.append(block // contexts * (contexts + 1) + block % contexts)
    return replace(level, keys=keys.whole())


def write_counts(counts: Counts, folder: Path) -> None:
    """Write both Arrow files: a row for each history with what followed it, and the known contexts by code."""
    markov = counts.markov
    tables = [_prior_rows(markov.prior)]
    for number, (level, trust) in enumerate(zip(markov.levels, markov.trust, strict=True)):
        starts = pa.array(level.starts.astype(np.int32))
        columns = [
            pa.array(np.full(len(level.keys), number, np.int32)),
            pa.array(level.keys),
            pa.array(trust),
            pa.ListArray.from_arrays(starts, pa.array(level.behaviors)),
            pa.ListArray.from_arrays(starts, pa.array(level.counts)),
        ]
        tables.append(pa.table(columns, schema=_SCHEMA))
    about = {
        "levels": json.dumps([[level.base, level.added] for level in markov.levels]),
        "unknown_context": str(counts.unknown_context),
    }
    _write(pa.concat_tables(tables).combine_chunks().replace_schema_metadata(about), folder / COUNTS)
    rows = sorted(counts.contexts.items(), key=lambda item: item[1])
    contexts = {"code": pa.array([code for _, code in rows], pa.int64())}
    for place, name in enumerate(counts.columns):
        contexts[name] = pa.array([values[place] for values, _ in rows], pa.string())
    _write(pa.table(contexts), folder / CONTEXTS)


def read_counts(folder: Path, behaviors: int) -> Counts:
    """The inverse of `write_counts`, for a vocabulary of so many. Raises DataError for files that are not such."""
    try:
        table, contexts = (
            data_only(
                pa.ipc.open_file(pa.BufferReader((folder / name).read_bytes())), folder / name
            ).read_all()
            for name in (COUNTS, CONTEXTS)
        )
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        markov = _markov_of(table.cast(_SCHEMA), json.loads(about["levels"]), behaviors)
        columns = tuple(contexts.column_names[1:])
        values = [contexts[name].to_pylist() for name in columns]
        known = (
            dict(zip(zip(*values, strict=True), contexts["code"].to_pylist(), strict=True)) if values else {}
        )
        return Counts(markov, columns, known, int(about["unknown_context"]))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{folder / COUNTS} cannot be read ({error}); export it again") from None


def _prior_rows(prior: NDArray[np.float64]) -> pa.Table:
    everything = [[np.arange(len(prior), dtype=np.int32)], [prior]]
    return pa.table([[PRIOR_LEVEL], [0], [1.0], *everything], schema=_SCHEMA)


def _markov_of(table: pa.Table, chain: Sequence[Sequence[int]], behaviors: int) -> Markov:
    level_of = table["level"].to_numpy()
    prior = np.array(table["counts"][int(np.flatnonzero(level_of == PRIOR_LEVEL)[0])].as_py(), np.float64)
    if len(prior) != behaviors:
        raise ValueError(f"counts of {len(prior)} behaviors, not {behaviors}")
    levels, trusts = [], []
    for number, (base, added) in enumerate(chain):
        rows = table.filter(pa.array(level_of == number)).combine_chunks()
        counts, followers = (one_chunk(rows[name]).flatten() for name in ("counts", "behaviors"))
        sizes = [len(entry) for entry in rows["counts"]]
        starts = np.cumsum([0, *sizes]).astype(np.int64)
        of_entry = np.repeat(np.arange(len(rows)), sizes)
        totals = np.bincount(of_entry, counts.to_numpy(), len(rows)).astype(np.float64)
        levels.append(
            LevelCounts(
                base, added, rows["key"].to_numpy(), totals, starts, followers.to_numpy(), counts.to_numpy()
            )
        )
        trusts.append(rows["trust"].to_numpy())
    return Markov(prior, tuple(levels), tuple(trusts))


def _write(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
