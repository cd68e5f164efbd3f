"""A replica: one copy of a model on one process, which scores batches of windows and writes what it scored."""

import logging
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from behaviorlm.errors import StorageError
from behaviorlm.model.adapters import load_trained, merged_where_exact
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import ModelConfig, load_model
from behaviorlm.model.gpu import gpu_with_room
from behaviorlm.model.precision import slowness
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import PROMPT_TOKENS, LabelScorer, label_scorer, prompt_trees
from behaviorlm.selection.difficulty import difficulty_measures
from behaviorlm.timelines.parts import TokenRuns, labels_with_terminator, window_tokens, write_prompts
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.scoring.kept_scores import write_scores
from behaviorlm_ray.storage import Location

logger = logging.getLogger(__name__)

KEPT_SECONDS = 5.0
"""How long a process keeps a replica after its last batch: the next batch of a pool comes at once."""

BATCH_ROWS = pa.list_(pa.list_(pa.int64()))
"""Type of the rows of a batch's windows."""


@dataclass(frozen=True)
class ScoringTask:
    """What a replica needs: the prepared log, the model (`trained` None: the base), and how to run it.

    measures: write the difficulty measures of each sample instead of all its label scores. owner: what the scores are
    of, written into their files. normalization, temperature: see `label_scorer`. questions: score these, each alone,
    instead of samples; a window (0, rows) is then rows of them that go through the model together. allow_plain: whether
    the model may run as plain sequences.
    """

    log: PreparedLog
    model: ModelConfig
    trained: Location | None
    measures: bool
    max_tokens: int
    threads: int
    use_gpu: bool
    owner: str = ""
    normalization: Normalization = "full"
    temperature: float = 1.0
    allow_plain: bool = True
    questions: TokenRuns | None = None


def open_model(task: ScoringTask) -> tuple[nn.Module, TreeAttention]:
    """The model of a task on its device, in eval mode without gradients, and how it takes trees."""
    torch.set_num_threads(task.threads)
    if told := slowness(task.model.dtype, task.use_gpu):
        logger.warning("scoring: %s", told)
    device = gpu_with_room(task.model) if task.use_gpu else torch.device("cpu")
    loaded: Any = (
        load_model(task.model)
        if task.trained is None
        else merged_where_exact(load_trained(task.model, storage.local_copy(task.trained)))
    )
    model = loaded.to(device).eval().requires_grad_(False)
    return model, choose_attention(model, allow_plain=task.allow_plain)


def open_scorer(task: ScoringTask) -> LabelScorer:
    """The scorer of a task's model for the names of its vocabulary."""
    model, attention = open_model(task)
    labels = labels_with_terminator(task.log.prompt)
    return label_scorer(model, attention, labels, task.max_tokens, task.normalization, task.temperature)


class Replica:
    """One copy of the model; scores batches of windows. State: the tokens that went through it so far."""

    def __init__(self, task: ScoringTask) -> None:
        self.task = task
        self.scorer = open_scorer(task)
        self.tokens = 0

    def __call__(self, batch: pa.Table) -> pa.Table:
        parts = batch["part"].to_pylist()
        rows = [np.array(window, dtype=np.int64) for window in batch["rows"].to_pylist()]
        scores: list[np.ndarray] = []
        groups = self._groups(parts, rows)
        together = max(1, self.scorer.max_tokens // PROMPT_TOKENS)
        for start in range(0, len(groups), together):
            scores += self._score(parts, rows, groups[start : start + together])
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
        if self.task.questions is not None:
            return [[index] for index in range(len(parts))]
        return prompt_trees(
            [
                window_tokens(self.task.log.parts[part], window, np.ones(len(window), dtype=np.int64))
                for part, window in zip(parts, rows, strict=True)
            ]
        )

    def _score(self, parts: list[int], rows: list[np.ndarray], groups: list[list[int]]) -> list[np.ndarray]:
        questions = self.task.questions

        def write(writer: TreeWriter) -> list[int]:
            last: list[int] = []
            for group in groups:
                writer.open(self.task.log.prompt.instruction_ids)
                for index in group:
                    if questions is not None:
                        last += [writer.leaf(questions[row]) for row in rows[index]]
                    else:
                        last += write_prompts(writer, self.task.log.parts[parts[index]], rows[index])
                writer.close()
            return last

        scores, work = self.scorer.score_counted(write)
        self.tokens += work.tokens
        return np.split(scores, np.cumsum([len(rows[index]) for group in groups for index in group])[:-1])


class WritingReplica:
    """A replica that writes each batch to a file named by its windows: run again, it writes the same file again."""

    def __init__(self, task: ScoringTask, folder: Location) -> None:
        self.replica, self.folder = Replica(task), folder

    def __call__(self, batch: pa.Table) -> pa.Table:
        """batch: one row, the `part` and the `rows` of each window of a batch."""
        windows = batch["rows"].cast(BATCH_ROWS).combine_chunks().flatten()
        batch = pa.table({"part": batch["part"].combine_chunks().flatten(), "rows": windows})
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
        self._replica: WritingReplica | None = None
        self._timer: threading.Timer | None = None

    def score(self, batch: pa.Table, pool: str, pickled: bytes) -> pa.Table:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._replica is None or self._pool != pool:
                self._replica = None  # not two models at a time
                self._pool, self._replica = pool, WritingReplica(*pickle.loads(pickled))
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


def score_batch(batch: pa.Table, pool: str, pickled: bytes) -> pa.Table:
    """Score and write a batch with this process's replica. pool: names the pool; pickled: (task, folder)."""
    return _kept.score(batch, pool, pickled)
