"""Scoring on Ray Data: a pool of model replicas over history windows, one output row for each window.

Every sample asked for is scored exactly once; that is checked when the scores are read back. What an attempt that was
cut short has scored is kept.

With a GPU, replicas are actors, which hold it. On CPUs they are tasks: their processes have imported all they need
when the next pool starts, and starting processes is most of the time that a small model takes.
"""

import hashlib
import pickle
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from behaviorlm.errors import ClusterError, StorageError
from behaviorlm.timelines.parts import (
    token_runs,
)
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.failures import memory_problem
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.kept_scores import CutShort, Window, keep_scores
from behaviorlm_ray.scoring.replica import ScoringTask, WritingReplica, score_batch
from behaviorlm_ray.storage import Location

BLOCKS_PER_ACTOR = 32
"""Blocks of windows for each replica (our choice): enough to balance their loads and to show progress."""

QUESTIONS = 32
"""Questions without history that go through the model together (our choice)."""


@dataclass(frozen=True)
class ScoringPool:
    """How many replicas run, and how much each takes at a time."""

    actors: int
    windows_per_batch: int
    cpus_per_actor: int
    use_gpu: bool


@dataclass(frozen=True)
class Scored:
    """How many samples have scores, and how many tokens went through the model for it, kept ones included."""

    samples: int
    tokens: int


def score(
    task: ScoringTask,
    rows: SampleRows,
    folder: Location,
    pool: ScoringPool,
    earlier: Sequence[Location] = (),
) -> Scored:
    """Score the chosen samples into Parquet files below `folder`.

    Replicas write what they score themselves: a writer behind them would need a CPU that they hold.
    earlier: folders of attempts at the same scores that were cut short.
    """
    return _score_windows(task, _windows(task.log, rows), folder, pool, earlier)


def _score_windows(
    task: ScoringTask,
    windows: list[tuple[int, list[int]]],
    folder: Location,
    pool: ScoringPool,
    earlier: Sequence[Location],
) -> Scored:
    unit = "samples" if task.questions is None else "questions"
    storage.make_folder(folder)
    kept = keep_scores(CutShort(task.owner, earlier), folder, [_key(window) for window in windows])
    if kept.windows:
        print(
            f"scoring: {kept.samples} {unit} are there already, from an attempt that was cut short",
            flush=True,
        )
        windows = [window for window in windows if _key(window) not in kept.windows]
    if not windows:
        return Scored(kept.samples, kept.tokens)
    blocks = max(1, min(len(windows) // pool.windows_per_batch, BLOCKS_PER_ACTOR * pool.actors))
    actors = min(pool.actors, blocks)
    dataset = ray.data.from_arrow([_window_table(windows[block::blocks]) for block in range(blocks)])
    scored = _map(dataset, task, folder, pool, actors)
    samples = sum(len(chosen) for _, chosen in windows)
    progress = ProgressLines("scoring", samples, unit)
    tokens = kept.tokens
    with _naming_memory(task):
        for batch in scored.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
            for problem in pc.drop_null(batch["problem"]).to_pylist():
                raise StorageError(problem)
            progress.add(pc.sum(batch["samples"]).as_py())
            tokens += pc.sum(batch["tokens"]).as_py()
    return Scored(kept.samples + samples, tokens)


@contextmanager
def _naming_memory(task: ScoringTask) -> Iterator[None]:
    """Raise ClusterError in place of whatever says, from below Ray Data, that memory was full."""
    try:
        yield
    except Exception as error:
        problem = memory_problem(error)
        if problem is None:
            raise
        raise ClusterError(
            f"scoring ran out of memory ({problem}). What was scored before is kept. Lower execution.scoring_tokens "
            f"({task.max_tokens}) or execution.scoring_actors, or take larger machines, and start the job again"
        ) from error


def _map(
    dataset: ray.data.Dataset, task: ScoringTask, folder: Location, pool: ScoringPool, replicas: int
) -> ray.data.Dataset:
    common: dict[str, Any] = {
        "batch_size": pool.windows_per_batch,
        "batch_format": "pyarrow",
        "num_cpus": pool.cpus_per_actor,
    }
    if pool.use_gpu:
        return dataset.map_batches(
            WritingReplica,
            fn_constructor_args=(task, folder),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=replicas, initial_size=replicas),
            num_gpus=1,
            **common,
        )
    return dataset.map_batches(
        score_batch,  # type: ignore[arg-type]  # Ray types no further arguments
        fn_args=(uuid.uuid4().hex, pickle.dumps((task, folder))),
        compute=ray.data.TaskPoolStrategy(size=replicas),
        **common,
    )


def read_scores(folder: Location, log: PreparedLog, rows: SampleRows) -> dict[str, np.ndarray]:
    """The columns written for the chosen samples, parts one after another in order of rows.

    Label scores come as "label_scores" float32 [n, K]; measures as float64 [n] by name. Raises StorageError where a
    sample is missing or scored twice.
    """
    if not any(len(chosen) for chosen in rows):
        return {"label_scores": np.zeros((0, len(log.vocabulary)), dtype=np.float32)}
    table = _read_table(folder)
    place = _places(folder, table, rows)
    result = {}
    for name in table.column_names:
        if table[name].null_count:
            raise StorageError(f"{folder}: {name} is missing of some samples: score again")
        if name in ("part", "rows"):
            continue
        values = table[name].combine_chunks().values.to_numpy(zero_copy_only=False)
        columns = values.reshape(len(place), -1)
        ordered = np.empty_like(columns)
        ordered[place] = columns
        result[name] = ordered if name == "label_scores" else ordered[:, 0]
    return result


def check_scores(folder: Location, rows: SampleRows) -> None:
    """Raise StorageError where a sample is missing or scored twice."""
    if any(len(chosen) for chosen in rows):
        _places(folder, _read_table(folder, ["part", "rows"]), rows)


def _places(folder: Location, table: pa.Table, rows: SampleRows) -> np.ndarray:
    """Where each scored sample stands in the order of rows; int64 [n]. Raises StorageError."""
    bounds = np.r_[0, np.cumsum([len(chosen) for chosen in rows])]
    total = int(bounds[-1])
    part = np.repeat(table["part"].to_numpy(), [len(chosen) for chosen in table["rows"].to_pylist()])
    row = table["rows"].combine_chunks().values.to_numpy()
    place = np.full(len(row), -1, dtype=np.int64)
    for number, chosen in enumerate(rows):
        members = np.flatnonzero(part == number)
        position = np.searchsorted(chosen, row[members])
        found = position < len(chosen)
        found[found] = chosen[position[found]] == row[members][found]
        place[members[found]] = bounds[number] + position[found]
    if len(place) != total or (np.bincount(place[place >= 0], minlength=total) != 1).any():
        raise StorageError(
            f"{folder} does not hold each of {total} samples once ({len(place)} found): score again"
        )
    return place


def score_without_history(
    task: ScoringTask,
    rows: SampleRows,
    folder: Location,
    pool: ScoringPool,
    earlier: Sequence[Location] = (),
) -> np.ndarray:
    """Label scores of each chosen sample's question alone, for the PMI form; float32 [n, K] in order of rows.

    Samples with the same question share one score. Scores of the distinct questions stay in files below `folder`;
    earlier: such folders of attempts that were cut short.
    """
    questions = [
        part.questions[row] for part, chosen in zip(task.log.parts, rows, strict=True) for row in chosen
    ]
    distinct = {question.tobytes(): question for question in questions}
    place = {key: index for index, key in enumerate(distinct)}
    alone = token_runs(list(distinct.values()))
    told = hashlib.sha256(alone.offsets.tobytes() + alone.values.tobytes()).hexdigest()
    asked = replace(task, questions=alone, owner=f"{task.owner}, questions {told}")
    numbers = list(range(len(distinct)))
    chunks = [(0, numbers[start : start + QUESTIONS]) for start in range(0, len(numbers), QUESTIONS)]
    _score_windows(asked, chunks, folder, replace(pool, windows_per_batch=1), earlier)
    scores = read_scores(folder, task.log, [np.arange(len(distinct))])["label_scores"]
    return scores[[place[question.tobytes()] for question in questions]]


def _read_table(folder: Location, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(storage.local_copy(folder), columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{folder} cannot be read ({error}): score again") from error


def _window_table(windows: list[tuple[int, list[int]]]) -> pa.Table:
    rows = pa.array([chosen for _, chosen in windows], pa.list_(pa.int64()))
    return pa.table({"part": pa.array([part for part, _ in windows], pa.int64()), "rows": rows})


def _key(window: tuple[int, list[int]]) -> Window:
    return window[0], tuple(window[1])


def _windows(log: PreparedLog, rows: SampleRows) -> list[tuple[int, list[int]]]:
    return [
        (number, window.tolist())
        for number, (part, chosen) in enumerate(zip(log.parts, rows, strict=True))
        for window in part.windows(chosen)
    ]
