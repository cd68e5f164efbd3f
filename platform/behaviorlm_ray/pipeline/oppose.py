"""The stages `oppose_...`: an opponent fitted to the training samples, and its scores of all samples that are measured.

It runs where the job runs, without Ray, on a GPU where there is one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.opponents.budget import MOST_WATCHED
from behaviorlm.opponents.names import OpponentName, budget_of, require_installed
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.evaluation.counted_log import asked_rows, counted_log
from behaviorlm_ray.pipeline.predict import SCORES, evaluated_samples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import SampleRows, count, union_rows
from behaviorlm_ray.scoring.score_files import LABEL_SCORES, check_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 2

FITS = "fits.json"
"""Of the stage's output: the fits of the search."""
SAMPLES_A_ROW = 64
"""Samples in one row of the file of scores (our choice)."""


def oppose(run: Run, name: OpponentName) -> Stage:
    """What an opponent says; its scores lie as those of `predict` do."""
    settings, evaluation = run.settings, run.settings.evaluation
    return Stage(
        name=f"oppose_{name}",
        version=VERSION,
        identity={
            "budget": json.loads(json.dumps(asdict(budget_of(name)))),
            "most_watched": MOST_WATCHED,
            "max_events": settings.prompt.max_events,
            "max_samples": evaluation.max_samples,
            "max_validation_samples": evaluation.max_validation_samples,
            "seed": evaluation.seed,
            **run.few_shot_identity,
        },
        inputs={"prepared": prepare(run)},
        body=lambda folder, made: _oppose(folder, made, settings, name),
        arm=run.arm,
    )


def _oppose(folder: StageFolder, made: Made, settings: RunSettings, name: OpponentName) -> StageResult:
    # here, because it brings torch, which a plan does without
    import torch

    from behaviorlm.opponents.registry import fit_opponent

    require_installed(name)
    log = open_log(made["prepared"], settings)
    samples = evaluated_samples(log, settings)
    timelines = counted_log(log, samples).timelines
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fitted = fit_opponent(
        name, timelines, settings.prompt.max_events, settings.evaluation.seed, budget_of(name), device
    )
    told = [asdict(fit) for fit in fitted.fits]
    for fit in fitted.fits:
        loss = "not watched: no validation samples" if fit.loss is None else f"{fit.loss:.4f} on validation"
        screen().says(f"oppose: {name}, learning rate {fit.learning_rate:g}: {loss}, {fit.rounds} rounds")
    rows = union_rows(samples.validation, samples.test)
    asked = asked_rows(log, rows)
    with storage.writing_file(folder.output / SCORES / "samples.parquet") as path:
        first = 0
        schema = pa.schema(
            [("part", pa.int64()), ("rows", pa.list_(pa.int64())), (LABEL_SCORES, pa.list_(pa.float32()))]
        )
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part, chosen in _blocks(rows):
                scores = fitted.predict(timelines, asked[first : first + len(chosen)])
                first += len(chosen)
                writer.write_table(_table(part, chosen, scores, schema))
    check_scores(folder.output / SCORES, rows)
    storage.write_replacing(folder.output / FITS, json.dumps(told, indent=1).encode())
    found = {"validation": count(samples.validation), "test": count(samples.test)}
    return StageResult(rows=found, metrics={"fits": told})


def _blocks(rows: SampleRows) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The samples of a part at a time, as many as a table of scores holds at once."""
    step = 64 * SAMPLES_A_ROW
    for part, chosen in enumerate(rows):
        for begin in range(0, len(chosen), step):
            yield part, chosen[begin : begin + step]


def _table(part: int, rows: NDArray[np.int64], scores: NDArray[np.float32], schema: pa.Schema) -> pa.Table:
    """Rows of so many samples each, with their scores one after another."""
    cuts = range(SAMPLES_A_ROW, len(rows), SAMPLES_A_ROW)
    together = [[part] * (len(cuts) + 1), np.split(rows, cuts), [of.ravel() for of in np.split(scores, cuts)]]
    return pa.table([pa.array(of, field.type) for of, field in zip(together, schema, strict=True)], schema)
