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
import ray

from behaviorlm.errors import ClusterError, StorageError
from behaviorlm.scoring.label_scoring import CPU_TOKENS
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.failures import memory_problem
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.preparation.prepared_log import SampleRows, distinct_questions
from behaviorlm_ray.scoring.kept_scores import CutShort, KeptScores, keep_scores
from behaviorlm_ray.scoring.replica import ScoringTask, WritingReplica, score_batch
from behaviorlm_ray.scoring.windows import Windows, batch_table, windows_of
from behaviorlm_ray.storage import Location

BLOCKS_PER_ACTOR = 32
"""Blocks of windows for each replica: enough to balance their loads and to show progress."""

QUESTIONS = 32
"""Questions without history that go through the model together."""


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
    return _score_windows(task, windows_of(task.log, rows), folder, pool, earlier)


def _score_windows(
    task: ScoringTask,
    windows: Windows,
    folder: Location,
    pool: ScoringPool,
    earlier: Sequence[Location],
) -> Scored:
    unit = "samples" if task.questions is None else "questions"
    storage.make_folder(folder)
    # Cut before what is kept is left out, whatever the number of replicas: in bfloat16 a score depends on the prompts
    # that went through the model beside it, by tenths of a nat.
    batch_of = np.arange(len(windows)) // pool.windows_per_batch
    kept = KeptScores()
    if earlier:
        kept = keep_scores(CutShort(task.owner, earlier), folder, windows.named())
    if kept.windows:
        screen().says(f"scoring: {kept.samples} {unit} are there already, from an attempt that was cut short")
        is_left = np.array([key not in kept.windows for key in windows.named()])
        windows, batch_of = windows.chosen(is_left), batch_of[is_left]
    if not len(windows):
        return Scored(kept.samples, kept.tokens)
    make_room()
    batches = batch_table(windows, batch_of)
    blocks = min(len(batches), BLOCKS_PER_ACTOR * pool.actors)
    dataset = ray.data.from_arrow(
        [batches.take(pa.array(np.arange(block, len(batches), blocks))) for block in range(blocks)]
    )
    scored = _map(dataset, task, folder, pool, min(pool.actors, blocks))
    samples = len(windows.rows)
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
        tokens = task.max_tokens if task.use_gpu else min(task.max_tokens, CPU_TOKENS)
        raise ClusterError(
            f"scoring ran out of memory ({problem}). What was scored before is kept. Lower execution.scoring_tokens "
            f"({tokens} at work) or execution.scoring_actors, or take larger machines, and start the job again"
        ) from error


def _map(
    dataset: ray.data.Dataset, task: ScoringTask, folder: Location, pool: ScoringPool, replicas: int
) -> ray.data.Dataset:
    common: dict[str, Any] = {
        "batch_size": 1,
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


def score_questions(
    task: ScoringTask,
    rows: SampleRows,
    folder: Location,
    pool: ScoringPool,
    earlier: Sequence[Location] = (),
) -> Scored:
    """Score likewise the `distinct_questions` of the chosen samples, each alone, as samples of one part, for the PMI
    form.
    """
    questions, _ = distinct_questions(task.log, rows)
    told = hashlib.sha256(questions.offsets.tobytes() + questions.values.tobytes()).hexdigest()
    asked = replace(task, questions=questions, owner=f"{task.owner}, questions {told}")
    numbers = np.arange(len(questions.lengths()), dtype=np.int64)
    starts = np.append(np.arange(0, len(numbers), QUESTIONS), len(numbers))
    chunks = Windows(np.zeros(len(starts) - 1, np.int64), starts, numbers)
    return _score_windows(asked, chunks, folder, replace(pool, windows_per_batch=1), earlier)
