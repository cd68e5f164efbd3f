"""What the stages that score a model have in common: the work, where it goes, and what earlier attempts left of it."""

from dataclasses import replace

from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import MODEL
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring.pool import Scored, ScoringPool, score, score_questions
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
    )


def score_into(
    folder: StageFolder, path: str, task: ScoringTask, rows: SampleRows, settings: RunSettings
) -> Scored:
    """Score into a path of the stage's output, with what earlier attempts left there."""
    earlier = [attempt / path for attempt in folder.earlier]
    return score(_owned(folder, path, task), rows, folder.output / path, _pool(settings), earlier)


def score_questions_into(
    folder: StageFolder, path: str, task: ScoringTask, rows: SampleRows, settings: RunSettings
) -> Scored:
    """Score the samples' questions alone, likewise."""
    earlier = [attempt / path for attempt in folder.earlier]
    return score_questions(_owned(folder, path, task), rows, folder.output / path, _pool(settings), earlier)


def _owned(folder: StageFolder, path: str, task: ScoringTask) -> ScoringTask:
    """The task with its owner: the stage, whose fingerprint tells the version of its code, and the place in it."""
    return replace(task, owner=f"{folder.stage}/{path}, {package_versions()}")


def _pool(settings: RunSettings) -> ScoringPool:
    execution = settings.execution
    return ScoringPool(
        execution.scoring_actors,
        execution.windows_per_batch,
        execution.cpus_per_actor,
        execution.tuning.use_gpu,
    )
