"""The stages `predict_...`: label scores of validation and test samples, and what the model keeps of its knowledge."""

import json

from behaviorlm.files.patient_reads import patience
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm.scoring.config import Normalization
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.b_tune import tuned_model
from behaviorlm_ray.pipeline.conversations import conversations
from behaviorlm_ray.pipeline.costs import measured_samples, scoring_cost
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import NORMALIZATION, Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.conversation_files import read_encoded
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    limit_rows,
    rows_of_split,
    union_rows,
)
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 7

SCORES = "scores"
WITHOUT_HISTORY = "without_history"
"""Folder of the scores of the test samples' distinct questions; of an untuned model only."""
RETENTION = "retention.json"


def predict(run: Run, tuning: Tuning) -> Stage:
    """What the model after a tuning says of all samples that are measured; `untuned`: the base as it came."""
    settings, evaluation = run.settings, run.settings.evaluation
    model = tuned_model(run, tuning)
    return Stage(
        name=f"predict_{tuning}",
        version=VERSION,
        identity={
            "model": run.model_identity,
            "max_samples": evaluation.max_samples,
            "max_validation_samples": evaluation.max_validation_samples,
            "seed": evaluation.seed,
            "retention_conversations": evaluation.retention_conversations,
            **run.scoring_identity,
            **run.few_shot_identity,
        },
        inputs={
            "prepared": prepare(run),
            "base": run.inputs.base,
            **({} if model is None else {"model": model}),
            **({"conversations": conversations(run)} if settings.auxiliary else {}),
            **({"cloze": run.inputs.cloze} if evaluation.cloze else {}),
        },
        body=lambda folder, made: _predict(folder, made, run.resolved),
        cost=lambda sample: scoring_cost(
            run, sample, measured_samples(settings, sample), disk=4.0 * len(sample.counts)
        ),
        arm=run.arm,
    )


def normalization_of(predicted: StageOutput) -> Normalization:
    """How the label scores of a finished `predict` are normalized."""
    found: Normalization = predicted.manifest.config.get(NORMALIZATION, "full")
    return found


def evaluated_samples(log: PreparedLog, settings: RunSettings) -> EvaluatedSamples:
    """The validation and test samples that models are measured on."""
    evaluation = settings.evaluation
    test = limit_rows(log, rows_of_split(log, "test"), evaluation.max_samples, evaluation.seed)
    return EvaluatedSamples(validation_samples(log, settings), test)


def validation_samples(log: PreparedLog, settings: RunSettings) -> SampleRows:
    """The validation samples on which choices are made."""
    evaluation = settings.evaluation
    return limit_rows(
        log, rows_of_split(log, "validation"), evaluation.max_validation_samples, evaluation.seed
    )


def _predict(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    # here, because these bring Ray Data, which a plan does without
    from behaviorlm_ray.pipeline.model_scores import score_into, scoring_task
    from behaviorlm_ray.scoring.pool import score_questions
    from behaviorlm_ray.scoring.retention import measure_retention
    from behaviorlm_ray.scoring.score_files import check_scores

    log = open_log(made["prepared"], settings)
    samples = evaluated_samples(log, settings)
    task = scoring_task(settings, log, made.get("model"), measures=False)
    both = union_rows(samples.validation, samples.test)
    scored = score_into(folder, SCORES, task, both, settings)
    check_scores(folder.output / SCORES, both)
    if "model" not in made and count(samples.test):
        score_into(folder, WITHOUT_HISTORY, task, samples.test, settings, score_questions)
    held_out = {}
    if "conversations" in made:
        for source in settings.auxiliary:
            talks = read_encoded(made["conversations"].folder / f"{source.name}.arrow", True)
            held_out[source.name] = talks[: settings.evaluation.retention_conversations]
    with patience(settings.storage.patience_seconds):
        questions = read_cloze(settings.evaluation.cloze) if settings.evaluation.cloze else []
    tokenizer = load_tokenizer(settings.model) if questions else None
    retention = measure_retention(task, held_out, tokenizer, questions)
    storage.write_replacing(folder.output / RETENTION, json.dumps(retention, indent=1).encode())
    rows = {"validation": count(samples.validation), "test": count(samples.test)}
    metrics = {"retention": retention, "dtype": settings.model.dtype}
    return StageResult(rows=rows, metrics=metrics, cost={"tokens": scored.tokens})
