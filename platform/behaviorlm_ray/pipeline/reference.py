"""The stage `reference`: what the base says of the tail behaviors after the samples of A-Tuning that are held to it."""

from dataclasses import replace

import numpy as np

from behaviorlm.errors import DataError
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import count
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage
from behaviorlm_ray.tuning.config import KeepTail
from behaviorlm_ray.tuning.training_rows import held_rows

VERSION = 2

SCORES = "scores"
TAIL_SCORES = "tail.npy"
"""Of the tail behaviors, normalized over the trie of names: float32 [n, T] in the order of `held_rows`."""


def reference(run: Run, keep: KeepTail) -> Stage:
    """It depends on which samples are held, and not on how."""
    return Stage(
        name="reference",
        version=VERSION,
        identity={
            "model": run.model_identity,
            "share": keep.share,
            "seed": keep.seed,
            **run.few_anchors_identity,
        },
        inputs={"prepared": prepare(run), "base": run.inputs.base},
        body=lambda folder, made: _score(folder, made, run.resolved, keep),
        input_checks={"prepared": lambda prepared: check_tail(prepared, run.settings)},
        arm=run.arm,
    )


def check_tail(prepared: StageOutput, settings: RunSettings) -> None:
    """Raise DataError where there is nothing to tell apart among the tail."""
    vocabulary = open_log(prepared, settings).vocabulary
    vocabulary.require_anchors()
    tail = int((~vocabulary.is_anchor).sum())
    if tail < 2:
        raise DataError(
            f"a_tuning.keep_tail: the log has {tail} tail behaviors, and it takes two to hold how likely each is among "
            "them: set it to null, or raise vocabulary.anchor_threshold"
        )


def _score(folder: StageFolder, made: Made, settings: RunSettings, keep: KeepTail) -> StageResult:
    # here, because these bring Ray Data, which a plan does without
    from behaviorlm_ray.pipeline.model_scores import score_into, scoring_task
    from behaviorlm_ray.scoring.score_files import open_scores

    log = open_log(made["prepared"], settings)
    rows = held_rows(log, keep)
    task = replace(scoring_task(settings, log, None, measures=False), normalization="trie")
    scored = score_into(folder, SCORES, task, rows, settings)
    is_tail = ~log.vocabulary.is_anchor
    scores = np.empty((count(rows), int(is_tail.sum())), np.float32)
    for batch in open_scores(folder.output / SCORES, rows).batches(rows, len(is_tail)):
        scores[batch.places] = batch.label_scores[:, is_tail]
    with storage.writing_file(folder.output / TAIL_SCORES) as path, path.open("wb") as file:
        np.save(file, scores)
    return StageResult(rows={"samples": count(rows)}, cost={"tokens": scored.tokens})
