"""The stage `score`: every measure of difficulty of every training sample, by the models that judge."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.timelines.sample_ids import id_column
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.costs import judged, scoring_cost
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import one_stage, start
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    gather,
    half_of,
    limit_per_behavior,
    places_in,
    rows_of_half,
    rows_of_split,
)
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 3
"""Of this stage, and of that by which a study measures difficulty again after B-Tuning."""

DIFFICULTY = "difficulty.parquet"
SCORES = "scores"
DIFFICULTY_BYTES = 150
"""Of a sample: its id and measures, once with the scores and once in the table (our estimate)."""

Measures = dict[str, np.ndarray]
"""Measures of difficulty by name, float64[n] each."""


def score(run: Run) -> Stage:
    """Its inputs name who judges: "model" judges all samples; "model_half_0", tuned on half 0, judges those of half 1,
    and the other way round. "reference_half_0" and "..._1" are the references of reducible NLL, likewise.
    """
    difficulty = run.settings.difficulty
    models: dict[str, Stage | str] = {}
    if difficulty.source == "start":
        models["model"] = start(run)
    elif difficulty.source == "base":
        models["model"] = "base"
    else:
        models |= {f"model_half_{half}": start(run, half) for half in (0, 1)}
    is_reducible = difficulty.measure == "reducible"
    if is_reducible:
        models |= {f"reference_half_{half}": one_stage(run, half) for half in (0, 1)}
    identity: dict[str, Any] = {
        "difficulty": {key: value for key, value in plain(difficulty).items() if key != "measure"},
        "reducible": is_reducible,
        "model": run.model_identity,
        **run.scoring_identity,
        **run.few_shot_identity,
    }
    if difficulty.source == "cross_fit":
        identity["judge"] = "told for each sample"
    judges = 2 if is_reducible else 1  # of each sample
    return Stage(
        name="score",
        version=VERSION,
        identity=identity,
        inputs={"prepared": prepare(run), "base": run.inputs.base, **models},
        body=lambda folder, made: score_difficulty(folder, made, run.resolved),
        cost=lambda sample: scoring_cost(
            run, sample, judged(run.settings, sample) * judges, disk=DIFFICULTY_BYTES
        ),
        arm=run.arm,
    )


def score_difficulty(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    """Score every training sample with what judges it, and with the reference if there is one.

    Without any model among the inputs the base judges.
    """
    log = open_log(made["prepared"], settings)
    rows = scored_rows(log, settings)
    judges = {name: output for name, output in made.items() if name.startswith(("model", "reference"))}
    measures, tokens = _measured(folder, settings, log, rows, _of_kind(judges, "model"))
    table: dict[str, Any] = {"behavior": gather(log, rows, "behavior"), **measures}
    if "model_half_0" in judges:
        table["judge"] = 1 - half_of(log, rows)  # the model of a half judges the other one
    reference = _of_kind(judges, "reference")
    if reference:
        of_reference, more = _measured(folder, settings, log, rows, reference)
        tokens += more
        table["reducible"] = measures["nll"] - of_reference["nll"]
    columns = {"sample_id": id_column(gather(log, rows, "sample_id"))}
    with storage.writing_file(folder.output / DIFFICULTY) as path:
        pq.write_table(pa.table(columns | table), path)
    metrics: dict[str, Any] = {f"mean_{name}": float(np.mean(values)) for name, values in measures.items()}
    metrics["dtype"] = settings.model.dtype
    return StageResult(rows={"samples": count(rows)}, metrics=metrics, cost={"tokens": tokens})


def scored_rows(log: PreparedLog, settings: RunSettings) -> SampleRows:
    """The training samples whose difficulty is judged."""
    limits = settings.difficulty
    return limit_per_behavior(log, rows_of_split(log, "train"), limits.max_per_behavior, limits.seed)


def _of_kind(judges: Mapping[str, StageOutput], kind: str) -> dict[str, StageOutput | None]:
    """The judges of one kind by their folder's name below the scores; the base, None, where no model judges."""
    found: dict[str, StageOutput | None] = {
        name.replace("_half", ""): output for name, output in judges.items() if name.startswith(kind)
    }
    return found or ({"model": None} if kind == "model" else {})


def _measured(
    folder: StageFolder,
    settings: RunSettings,
    log: PreparedLog,
    rows: SampleRows,
    judges: Mapping[str, StageOutput | None],
) -> tuple[Measures, int]:
    """The measures of every training sample under the judges of one kind, in the order of `rows`; tokens it took."""
    # here, because these bring Ray Data, which a plan does without
    from behaviorlm_ray.pipeline.model_scores import score_into, scoring_task
    from behaviorlm_ray.scoring.score_files import read_measures

    def judged(name: str, asked: SampleRows) -> tuple[Measures, int]:
        task = scoring_task(settings, log, judges[name], measures=True)
        path = f"{SCORES}/{name}"
        scored = score_into(folder, path, task, asked, settings)
        return read_measures(folder.output / path, asked), scored.tokens

    if len(judges) == 1:
        return judged(next(iter(judges)), rows)
    measures: Measures = {}
    tokens = 0
    for half, name in enumerate(judges):
        asked = rows_of_half(log, rows, 1 - half)
        if not count(asked):  # a limit for each behavior may leave one half nothing
            continue
        found, more = judged(name, asked)
        for measure, values in found.items():
            measures.setdefault(measure, np.empty(count(rows)))[places_in(rows, asked)] = values
        tokens += more
    return measures, tokens
