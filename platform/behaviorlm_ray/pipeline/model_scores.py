"""What the stages that score a model have in common: the work, where it goes, and what earlier attempts left of it."""

from collections.abc import Callable
from dataclasses import replace

from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.run import MODEL
from behaviorlm_ray.pipeline.scoring_work import plain_warnings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.pool import Scored, ScoringPool, score
from behaviorlm_ray.scoring.replica import ScoringTask
from behaviorlm_ray.stages.attempts import StageFolder
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import package_versions


def scoring_task(
    settings: RunSettings, log: PreparedLog, model: StageOutput | None, *, measures: bool
) -> ScoringTask:
    """What replicas of a model need; None: the base. measures: those of difficulty instead of all label scores."""
    return ScoringTask(
        log,
        settings.model,
        None if model is None else model.folder / MODEL,
        measures,
        settings.execution.scoring_tokens,
        settings.execution.cpus_per_actor,
        settings.execution.tuning.use_gpu,
        normalization=settings.scoring.normalization,
        temperature=1.0 if model is None else settings.loss.temperature,  # the base was tuned with none
        allow_plain=settings.execution.allow_plain,
    )


def score_into(
    folder: StageFolder,
    path: str,
    task: ScoringTask,
    rows: SampleRows,
    settings: RunSettings,
    scoring: Callable[..., Scored] = score,
) -> Scored:
    """Score into a path of the stage's output, with what earlier attempts left there.

    scoring: `score`, or `score_questions` for the samples' questions alone.
    """
    for told in plain_warnings(settings, task.log):
        screen().says(told)
    # the owner is the stage, whose fingerprint tells the version of its code, and the place in it
    owned = replace(task, owner=f"{folder.stage}/{path}, {package_versions()}")
    execution = settings.execution
    pool = ScoringPool(
        execution.scoring_actors,
        execution.windows_per_batch,
        execution.cpus_per_actor,
        execution.tuning.use_gpu,
    )
    return scoring(owned, rows, folder.output / path, pool, [attempt / path for attempt in folder.earlier])
