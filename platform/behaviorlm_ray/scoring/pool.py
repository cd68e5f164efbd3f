"""Scoring on Ray Data: a pool of model replicas over history windows, one output row for each window.

Every sample asked for is scored exactly once; that is checked when the scores are read back. What an attempt that was
cut short has scored is kept.

With a GPU, replicas are actors, which hold it. On CPUs they are tasks: their processes have imported all they need
when the next pool starts, and starting processes is most of the time that a small model takes.
"""

import pickle
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import torch
from torch import nn

from behaviorlm.errors import StorageError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.scoring.label_scoring import LabelScorer, label_scorer
from behaviorlm.selection.difficulty import difficulty_measures
from behaviorlm.timelines.parts import labels_with_terminator, window_tokens, write_prompts
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray import storage
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.kept_scores import CutShort, Window, keep_scores, write_scores
from behaviorlm_ray.storage import Location

TREE_TOKENS = 1024
"""Tokens of prompts that go through the model as one tree (our choice): dense masks grow with the square."""

BLOCKS_PER_ACTOR = 32
"""Blocks of windows for each replica (our choice): enough to balance their loads and to show progress."""

KEPT_SECONDS = 5.0
"""How long a process keeps a replica after its last batch (our choice): the next batch of a pool comes at once."""


@dataclass(frozen=True)
class ScoringTask:
    """What a replica needs: the prepared log, the model (`trained` None: the base), and how to run it.

    measures: write the difficulty measures of each sample instead of all its label scores. owner: what the scores are
    of, written into their files.
    """

    log: PreparedLog
    model: ModelConfig
    trained: Location | None
    measures: bool
    max_tokens: int
    threads: int
    use_gpu: bool
    owner: str = ""


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
    windows = _windows(task.log, rows)
    storage.make_folder(folder)
    kept = keep_scores(CutShort(task.owner, earlier), folder, [_key(window) for window in windows])
    if kept.windows:
        print(
            f"scoring: {kept.samples} samples are there already, from an attempt that was cut short",
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
    progress = ProgressLines("scoring:", samples, "samples")
    tokens = kept.tokens
    for batch in scored.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
        for problem in pc.drop_null(batch["problem"]).to_pylist():
            raise StorageError(problem)
        progress.add(pc.sum(batch["samples"]).as_py())
        tokens += pc.sum(batch["tokens"]).as_py()
    return Scored(kept.samples + samples, tokens)


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
            _WritingReplica,
            fn_constructor_args=(task, folder),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=replicas, initial_size=replicas),
            num_gpus=1,
            **common,
        )
    return dataset.map_batches(
        _score_batch,  # type: ignore[arg-type]  # Ray types no further arguments
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


def score_without_history(task: ScoringTask, rows: SampleRows) -> np.ndarray:
    """Label scores of each chosen sample's question alone, for the PMI form; float32 [n, K] in order of rows.

    Samples with the same question share one score.
    """
    questions = [
        part.questions[row] for part, chosen in zip(task.log.parts, rows, strict=True) for row in chosen
    ]
    distinct = {question.tobytes(): question for question in questions}
    remote = _score_questions.options(
        num_cpus=task.threads, num_gpus=1 if task.use_gpu else 0, scheduling_strategy="DEFAULT"
    )
    scores = ray.get(remote.remote(task, list(distinct.values())))
    place = {key: index for index, key in enumerate(distinct)}
    return scores[[place[question.tobytes()] for question in questions]]


@ray.remote
def _score_questions(task: ScoringTask, questions: list[np.ndarray]) -> np.ndarray:
    scorer = _open_scorer(task)
    pieces = []
    for start in range(0, len(questions), 32):
        asked = questions[start : start + 32]

        def write(writer: TreeWriter, asked: list[np.ndarray] = asked) -> list[int]:
            writer.open(task.log.prompt.instruction_ids)
            return [writer.leaf(question) for question in asked]

        pieces.append(scorer.score(write))
    return np.concatenate(pieces)


def _open_scorer(task: ScoringTask) -> LabelScorer:
    model, attention = open_model(task)
    return label_scorer(model, attention, labels_with_terminator(task.log.prompt), task.max_tokens)


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


def open_model(task: ScoringTask) -> tuple[nn.Module, TreeAttention]:
    """The model of a task on its device, in eval mode without gradients, and how it takes trees."""
    torch.set_num_threads(task.threads)
    loaded: Any = (
        load_model(task.model)
        if task.trained is None
        else load_trained(task.model, storage.local_copy(task.trained))
    )
    model = loaded.to("cuda" if task.use_gpu else "cpu").eval().requires_grad_(False)
    return model, choose_attention(model)


class _Replica:
    """One copy of the model; scores batches of windows. State: the tokens that went through it so far."""

    def __init__(self, task: ScoringTask) -> None:
        self.task = task
        self.scorer = _open_scorer(task)
        self.tokens = 0

    def __call__(self, batch: pa.Table) -> pa.Table:
        parts = batch["part"].to_pylist()
        rows = [np.array(window, dtype=np.int64) for window in batch["rows"].to_pylist()]
        scores = [scored for group in self._groups(parts, rows) for scored in self._score(parts, rows, group)]
        columns: dict[str, Any] = {"part": batch["part"], "rows": batch["rows"].cast(pa.list_(pa.int64()))}
        if not self.task.measures:
            columns["label_scores"] = pa.array([scored.ravel() for scored in scores], pa.list_(pa.float32()))
            return pa.table(columns)
        targets = [
            self.task.log.parts[part].behavior[window] for part, window in zip(parts, rows, strict=True)
        ]
        measures = [
            difficulty_measures(scored, target) for scored, target in zip(scores, targets, strict=True)
        ]
        for name in measures[0]:
            columns[name] = pa.array([measure[name] for measure in measures], pa.list_(pa.float64()))
        return pa.table(columns)

    def _groups(self, parts: list[int], rows: list[np.ndarray]) -> list[list[int]]:
        """Neighboring windows that go through the model as one tree."""
        groups: list[list[int]] = []
        tokens = 0
        for index, (part, window) in enumerate(zip(parts, rows, strict=True)):
            size = window_tokens(self.task.log.parts[part], window, np.ones(len(window), dtype=np.int64))
            if not groups or tokens + size > TREE_TOKENS:
                groups.append([])
                tokens = 0
            groups[-1].append(index)
            tokens += size
        return groups

    def _score(self, parts: list[int], rows: list[np.ndarray], group: list[int]) -> list[np.ndarray]:
        def write(writer: TreeWriter) -> list[int]:
            writer.open(self.task.log.prompt.instruction_ids)
            return [
                last
                for index in group
                for last in write_prompts(writer, self.task.log.parts[parts[index]], rows[index])
            ]

        scores, tokens = self.scorer.score_counted(write)
        self.tokens += tokens
        return np.split(scores, np.cumsum([len(rows[index]) for index in group])[:-1])


class _WritingReplica:
    """A replica that writes each batch to a file named by its windows: run again, it writes the same file again."""

    def __init__(self, task: ScoringTask, folder: Location) -> None:
        self.replica, self.folder = _Replica(task), folder

    def __call__(self, batch: pa.Table) -> pa.Table:
        before = self.replica.tokens
        scored = self.replica(batch)
        first = f"{batch['part'][0].as_py():05d}-{batch['rows'][0][0].as_py():09d}"
        problem = None
        try:
            with storage.writing_file(self.folder / f"windows-{first}.parquet") as path:
                write_scores(path, scored, self.replica.task.owner, self.replica.tokens - before)
        except StorageError as error:
            problem = str(error)  # raised here, it would reach the user as a traceback only
        samples = int(pc.sum(pc.list_value_length(batch["rows"])).as_py())
        tokens = self.replica.tokens - before
        return pa.table(
            {"samples": [samples], "tokens": [tokens], "problem": pa.array([problem], pa.string())}
        )


class _KeptReplica:
    """The replica of this process, kept from batch to batch of a pool and dropped soon after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: str | None = None
        self._replica: _WritingReplica | None = None
        self._timer: threading.Timer | None = None

    def score(self, batch: pa.Table, pool: str, pickled: bytes) -> pa.Table:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._replica is None or self._pool != pool:
                self._replica = None  # not two models at a time
                self._pool, self._replica = pool, _WritingReplica(*pickle.loads(pickled))
            scored = self._replica(batch)
            self._timer = threading.Timer(KEPT_SECONDS, self._drop)
            self._timer.daemon = True
            self._timer.start()
            return scored

    def _drop(self) -> None:
        with self._lock:
            if threading.current_thread() is self._timer:  # no batch has come since
                self._replica = None


_kept = _KeptReplica()


def _score_batch(batch: pa.Table, pool: str, pickled: bytes) -> pa.Table:
    return _kept.score(batch, pool, pickled)


def score_function(task: ScoringTask) -> Callable[[pa.Table], pa.Table]:
    """A replica in this process: for notebooks, tests and benchmarks."""
    return _Replica(task)
