"""The stage `evaluate`: all arms and baselines on the same samples; results.json and details.json."""

import json
from functools import partial
from typing import Any

import numpy as np

from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.evaluation.comparison import compare
from behaviorlm_ray.evaluation.predictors import ArmScores, ScoresAt
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.predict import (
    RETENTION,
    SCORES,
    WITHOUT_HISTORY,
    evaluated_samples,
    normalization_of,
    predict,
)
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.sample_checks import check_samples
from behaviorlm_ray.pipeline.scoring_work import plain_warnings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    distinct_questions,
    rests_on,
    union_rows,
)
from behaviorlm_ray.scoring.score_files import ScoresByPlace, open_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 7

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
            "world": truth and truth.open().version,
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
    tested, chosen_on = rests_on(log, samples.test), rests_on(log, samples.validation)
    screen().says(f"evaluate: measured on {tested}, choices made on {chosen_on}")
    scores: dict[str, ArmScores] = {}
    retention: dict[str, Any] = {}
    for arm in settings.evaluation.arms:
        scores[arm] = arm_scores(made[arm], log, samples)
        retention[arm] = json.loads(storage.read_text(made[arm].folder / RETENTION))
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
    return StageResult(rows=rows, warnings=[*plain_warnings(settings, log), *comparison.warnings])


def arm_scores(predicted: StageOutput, log: PreparedLog, samples: EvaluatedSamples) -> ArmScores:
    """What `predict` wrote, to be read in batches."""
    files = open_scores(predicted.folder / SCORES, union_rows(samples.validation, samples.test))
    behaviors = len(log.vocabulary)
    return ArmScores(
        partial(files.batches, samples.validation, behaviors),
        partial(files.batches, samples.test, behaviors),
        _without_history(predicted, log, samples.test) if predicted.files(f"{WITHOUT_HISTORY}/*") else None,
        counts_tokens=normalization_of(predicted) == "full",
    )


def _without_history(predicted: StageOutput, log: PreparedLog, rows: SampleRows) -> ScoresAt:
    questions, question_of = distinct_questions(log, rows)
    number, behaviors = len(questions.lengths()), len(log.vocabulary)
    every = [np.arange(number)]
    batches = open_scores(predicted.folder / WITHOUT_HISTORY, every).batches(every, behaviors)
    scores = ScoresByPlace(batches, number, behaviors)
    return lambda places: scores(question_of[places])
