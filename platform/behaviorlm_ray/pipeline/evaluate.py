"""The stage `evaluate`: all arms and baselines on the same samples; results.json and details.json."""

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.comparison import EvaluatedSamples
from behaviorlm_ray.evaluation.comparison import evaluate as compare
from behaviorlm_ray.pipeline.input_checks import check_samples
from behaviorlm_ray.pipeline.predict import RETENTION, SCORES, WITHOUT_HISTORY, evaluated_samples, predict
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, places_in, union_rows
from behaviorlm_ray.scoring.pool import read_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 5

RESULTS = "results.json"
DETAILS = "details.json"


def evaluate(run: Run) -> Stage:
    """The comparison. Whether the log has what the arms need shows before anything is tuned."""
    settings = run.settings
    evaluation = plain(settings.evaluation)
    truth = settings.evaluation.truth
    return Stage(
        name="evaluate",
        version=VERSION,
        identity={
            "evaluation": {key: value for key, value in evaluation.items() if key != "cloze"},
            "world": truth and truth.generator().version,
        },
        inputs={"prepared": prepare(run), **arms_of(run)},
        body=lambda folder, made: _evaluate(folder, made, settings),
        input_checks={"prepared": lambda prepared: check_samples(settings, open_log(prepared, settings))},
        arm=run.arm,
    )


def arms_of(run: Run) -> dict[str, Stage]:
    """The scores of each arm that is compared, by the arm's name."""
    settings = run.settings
    return {arm: predict(run.for_arm(arm), settings.all_arms[arm].tuning) for arm in settings.evaluation.arms}


def _evaluate(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    log = open_log(made["prepared"], settings)
    samples = evaluated_samples(log, settings)
    scores: dict[str, dict[str, np.ndarray]] = {}
    retention: dict[str, Any] = {}
    for arm in settings.evaluation.arms:
        output = made[arm]
        scores[arm] = read_label_scores(output, log, samples)
        if WITHOUT_HISTORY in output.manifest.files:
            path = storage.local_copy(output.folder / WITHOUT_HISTORY)
            alone = pq.read_table(path)["label_scores"].combine_chunks()
            scores[arm]["without_history"] = alone.values.to_numpy().reshape(len(alone), -1)
        retention[arm] = json.loads(storage.read_text(output.folder / RETENTION))
    evaluation = settings.evaluation
    comparison = compare(
        log,
        samples,
        scores,
        tau_grid=evaluation.tau,
        resamples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
        tail_minimum_targets=evaluation.tail_minimum_targets,
        truth=evaluation.truth,
    )
    results = comparison.results | {"retention": retention}
    storage.write_replacing(folder.output / RESULTS, json.dumps(results, indent=1).encode())
    storage.write_replacing(folder.output / DETAILS, json.dumps(comparison.details, indent=1).encode())
    rows = {"test": count(samples.test), "validation": count(samples.validation)}
    return StageResult(rows=rows, warnings=comparison.warnings)


def read_label_scores(
    predicted: StageOutput, log: PreparedLog, samples: EvaluatedSamples
) -> dict[str, np.ndarray]:
    """What `predict` wrote: float32 [n, K] by split, in the order of the split's rows."""
    both = union_rows(samples.validation, samples.test)
    label_scores = read_scores(predicted.folder / SCORES, log, both)["label_scores"]
    return {
        split: label_scores[places_in(both, chosen)]
        for split, chosen in (("validation", samples.validation), ("test", samples.test))
    }
