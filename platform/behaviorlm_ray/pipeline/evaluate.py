"""The stage `evaluate`: arms, opponents and baselines on the same samples.

results.json, details.json, predictions.parquet.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm.training.balance import class_weights, shown_counts
from behaviorlm.training.config import LossConfig
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.evaluation.comparison import Resampling, compare
from behaviorlm_ray.evaluation.prediction_table import PredictionTable
from behaviorlm_ray.evaluation.predictors import ArmScores, ScoresAt
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.costs import evaluate_cost
from behaviorlm_ray.pipeline.endpoint_comparison import AskedEndpoints, endpoints_of, scores_among
from behaviorlm_ray.pipeline.oppose import oppose
from behaviorlm_ray.pipeline.predict import (
    RETENTION,
    WITHOUT_HISTORY,
    evaluated_samples,
    normalization_of,
    predict,
)
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.sample_checks import check_samples
from behaviorlm_ray.pipeline.scoring_work import plain_warnings
from behaviorlm_ray.pipeline.select import SUMMARY, drawn, select
from behaviorlm_ray.pipeline.settings import RunSettings, with_changed_keys
from behaviorlm_ray.preparation.few_shots import few_shot_counts, few_shots_in_words
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    counts_of,
    distinct_questions,
    rests_on,
    rows_of_split,
)
from behaviorlm_ray.scoring.score_files import ScoresByPlace, open_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 13

RESULTS = "results.json"
DETAILS = "details.json"
PREDICTIONS = "predictions.parquet"
SUBSETS: Mapping[str, Callable[[Run], Stage]] = {"ab_tuned": select, "thinned": drawn}
"""The stage of the subset that an arm is last tuned on, by its tuning."""
TRAINED_ON = "trained_on"
"""In details: {arm: samples of each behavior that it was last tuned on, by its id; None: an untuned one}."""


def evaluate(run: Run) -> Stage:
    """The comparison. Whether the log has what the arms need shows before anything is tuned."""
    settings = run.settings
    evaluation = plain(settings.evaluation)
    truth = settings.evaluation.truth
    return Stage(
        name="evaluate",
        version=VERSION,
        identity={
            "evaluation": {
                key: value
                for key, value in evaluation.items()
                if key not in ("cloze", "endpoints") and (key != "opponents" or value)
            },
            "world": truth and truth.open().version,
            **run.few_shot_identity,
        },
        inputs={
            "prepared": prepare(run),
            **endpoints_of(run),
            **arms_of(run),
            **_selections(run),
            **_opponents(run),
        },
        body=lambda folder, made: _evaluate(folder, made, settings),
        cost=evaluate_cost,
        input_checks={"prepared": lambda prepared: check_samples(settings, open_log(prepared, settings))},
        arm=run.arm,
    )


def arms_of(run: Run) -> dict[str, Stage]:
    """The scores of each arm that is compared, by the arm's name."""
    settings = run.settings
    return {arm: predict(run.for_arm(arm), settings.all_arms[arm].tuning) for arm in settings.evaluation.arms}


def _selections(run: Run) -> dict[str, Stage]:
    """What arms that were last tuned on a subset were tuned on."""
    settings = run.settings
    return {
        f"{arm}.selection": subset(run.for_arm(arm))
        for arm in settings.evaluation.arms
        if (subset := SUBSETS.get(settings.all_arms[arm].tuning)) is not None
    }


def _opponents(run: Run) -> dict[str, Stage]:
    """The scores of each opponent, by its name."""
    return {name: oppose(run, name) for name in run.settings.evaluation.opponents}


def _trained_on(made: Made, log: PreparedLog, settings: RunSettings) -> dict[str, list[int] | None]:
    """Samples of each behavior that every arm was last tuned on; None: an untuned one, of which it is not known."""
    vocabulary, counts = log.vocabulary, counts_of(log, rows_of_split(log, "train"))
    found: dict[str, list[int] | None] = {}
    for arm in settings.evaluation.arms:
        match settings.all_arms[arm].tuning:
            case "untuned":
                found[arm] = None
            case "one_stage":
                found[arm] = counts.tolist()
            case "a_tuned":
                found[arm] = np.where(vocabulary.is_anchor, counts, 0).tolist()
            case "ab_tuned" | "thinned":
                selection = json.loads(storage.read_text(made[f"{arm}.selection"].folder / SUMMARY))
                found[arm] = [int(selection["behaviors"][name]["quota"]) for name in vocabulary.names]
    return found


def _evaluate(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    log = open_log(made["prepared"], settings)
    samples = evaluated_samples(log, settings)
    tested, chosen_on = rests_on(log, samples.test), rests_on(log, samples.validation)
    screen().says(f"evaluate: measured on {tested}, choices made on {chosen_on}")
    scores: dict[str, ArmScores] = {}
    retention: dict[str, Any] = {}
    trained_on = _trained_on(made, log, settings)
    for arm in settings.evaluation.arms:
        counts = trained_on[arm]
        scores[arm] = replace(arm_scores(made[arm], log, samples), mix=training_mix(settings, arm, counts))
        retention[arm] = json.loads(storage.read_text(made[arm].folder / RETENTION))
    evaluation = settings.evaluation
    of_training = log_prior(counts_of(log, rows_of_split(log, "train")))
    for opponent in evaluation.opponents:
        scores[opponent] = replace(arm_scores(made[opponent], log, samples), mix=of_training, is_served=False)
    with (
        storage.writing_file(folder.output / PREDICTIONS) as path,
        PredictionTable(path, log, samples.test) as table,
    ):
        comparing = partial(
            compare,
            log,
            tau_grid=evaluation.tau,
            resampling=Resampling(evaluation.bootstrap_samples, evaluation.seed),
            tail_minimum_targets=evaluation.tail_minimum_targets,
            truth=evaluation.truth,
        )
        asked = AskedEndpoints(log, settings, made, samples)
        comparison = comparing(samples, scores | asked.of_all_samples, told=table.write)
    asked.settle(comparison)
    few, few_told = few_shot_counts(log), few_shots_in_words(log)
    results = comparison.results | {"retention": retention} | ({} if few is None else {"few_shot": few})
    results |= asked.results(comparing, {name: (made[name], of) for name, of in scores.items()})
    details = comparison.details | {TRAINED_ON: trained_on}
    storage.write_replacing(folder.output / RESULTS, json.dumps(results, indent=1).encode())
    storage.write_replacing(folder.output / DETAILS, json.dumps(details, indent=1).encode())
    rows = {"test": count(samples.test), "validation": count(samples.validation)}
    warnings = [*([] if few_told is None else [few_told]), *plain_warnings(settings, log)]
    return StageResult(rows=rows, warnings=[*warnings, *comparison.warnings, *asked.warnings()])


def training_mix(settings: RunSettings, arm: str, counts: Sequence[int] | None) -> NDArray[np.float64] | None:
    """Log shares of the behaviors in what an arm was last tuned on, as its loss weights and repeats them; float64[K].

    counts: samples of each; None: not known.
    """
    if counts is None:
        return None
    loss = loss_of(settings, arm)
    there = np.array(counts, np.int64)
    shares = log_prior(shown_counts(there, loss.oversample))
    if not loss.class_balance:
        return shares
    return normalize_label_scores((shares + np.log(class_weights(there, loss.class_balance)))[None])[0]


def loss_of(settings: RunSettings, arm: str) -> LossConfig:
    """The loss of the tunings of an arm."""
    return with_changed_keys(settings, settings.all_arms[arm].values, f"arms.{arm}.values").loss


def arm_scores(predicted: StageOutput, log: PreparedLog, samples: EvaluatedSamples) -> ArmScores:
    """What `predict` wrote, to be read in batches."""
    has_alone = bool(predicted.files(f"{WITHOUT_HISTORY}/*"))
    return replace(
        scores_among(predicted, log, samples, samples),
        without_history=_without_history(predicted, log, samples.test) if has_alone else None,
        counts_tokens=normalization_of(predicted) == "full",
    )


def _without_history(predicted: StageOutput, log: PreparedLog, rows: SampleRows) -> ScoresAt:
    questions, question_of = distinct_questions(log, rows)
    number, behaviors = len(questions.lengths()), len(log.vocabulary)
    every = [np.arange(number)]
    batches = open_scores(predicted.folder / WITHOUT_HISTORY, every).batches(every, behaviors)
    scores = ScoresByPlace(batches, number, behaviors)
    return lambda places: scores(question_of[places])
