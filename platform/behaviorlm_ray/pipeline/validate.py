"""The stages `validate_...`: both parts of a search's objective on the validation samples; test is not touched."""

import json
from dataclasses import asdict

from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.b_tune import b_tune, tuned_model
from behaviorlm_ray.pipeline.costs import measured_samples, scoring_cost
from behaviorlm_ray.pipeline.predict import validation_samples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import count
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 5

VALIDATION = "validation"
METRICS = "metrics.json"


def validate(run: Run, tuning: Tuning, continues: Stage | None = None) -> Stage:
    """The model after a tuning, measured. continues: a rung of B-Tuning that the tuning goes on from."""
    model = tuned_model(run, tuning) if continues is None else b_tune(run, continues=continues)
    return _validate(run, f"validate_{tuning}", model)


def validate_rung(run: Run, step: int, rung: Stage) -> Stage:
    """The model after B-Tuning's first steps, `b_tune(run, step)`, measured."""
    return _validate(run, f"validate_step_{step}", rung)


def _validate(run: Run, name: str, model: Stage | None) -> Stage:
    evaluation = run.settings.evaluation
    return Stage(
        name=name,
        version=VERSION,
        identity={
            "model": run.model_identity,
            "max_validation_samples": evaluation.max_validation_samples,
            "seed": evaluation.seed,
            "tail_minimum_targets": evaluation.tail_minimum_targets,
            **run.scoring_identity,
            **run.few_shot_identity,
        },
        inputs={
            "prepared": prepare(run),
            "base": run.inputs.base,
            **({} if model is None else {"model": model}),
        },
        body=lambda folder, made: _measure(folder, made, run.resolved),
        cost=lambda sample: scoring_cost(
            run,
            sample,
            {"validation": measured_samples(run.settings, sample)["validation"]},
            disk=4.0 * len(sample.counts),
        ),
        input_checks={"prepared": lambda prepared: _check_validation(prepared, run.settings)},
        arm=run.arm,
    )


def _check_validation(prepared: StageOutput, settings: RunSettings) -> None:
    """Whether a search can choose by the validation samples, before anything is tuned."""
    from behaviorlm_ray.evaluation.validation import require_validation

    log = open_log(prepared, settings)
    require_validation(log, validation_samples(log, settings), settings.evaluation.tail_minimum_targets)


def _measure(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    # here, because these bring Ray Data, which a plan does without
    from behaviorlm_ray.evaluation.validation import validation_metrics
    from behaviorlm_ray.pipeline.model_scores import score_into, scoring_task
    from behaviorlm_ray.scoring.score_files import open_scores

    log = open_log(made["prepared"], settings)
    rows = validation_samples(log, settings)
    task = scoring_task(settings, log, made.get("model"), measures=False)
    scored = score_into(folder, VALIDATION, task, rows, settings)
    batches = open_scores(folder.output / VALIDATION, rows).batches(rows, len(log.vocabulary))
    metrics = asdict(validation_metrics(log, rows, batches, settings.evaluation.tail_minimum_targets))
    storage.write_replacing(folder.output / METRICS, json.dumps(metrics, indent=1).encode())
    told = metrics | {"dtype": settings.model.dtype}
    return StageResult(rows={"validation": count(rows)}, metrics=told, cost={"tokens": scored.tokens})
