"""Predict what each user of a log does next, or at every position, into Parquet, each prediction once.

The same command goes on with a job that was interrupted.

%(prog)s --model exported/my_app --log 'new/*.parquet' --to predictions
  [--every | --since 2024-03-01 | --at 2024-03-01T18:00:00Z]
"""

from collections.abc import Sequence

from behaviorlm_ray import storage
from behaviorlm_ray.cluster.submission import check_storage_root
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.console.shown import log_folder, shown
from behaviorlm_ray.prediction.named_model import check_named_model
from behaviorlm_ray.prediction.settings import PredictSettings


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Predict, or plan it. Returns the exit status."""
    return run_job(PredictSettings, predict, arguments, __doc__ or "", plan=plan, prog=prog, flags=("every",))


def plan(settings: PredictSettings) -> None:
    """Say what would be predicted."""
    check_named_model(settings.model)
    from behaviorlm_ray.prediction.running import described, opened_artifact, plan_prediction

    with shown(None):
        lines = described(plan_prediction(settings, opened_artifact(settings)))
    print("\n".join(lines))


def predict(settings: PredictSettings) -> None:
    """Check everything, then predict."""
    check_named_model(settings.model)
    check_storage_root(settings.to, "to")
    from behaviorlm_ray.cluster.connection import connected
    from behaviorlm_ray.prediction.folder import Manifest, begin, told
    from behaviorlm_ray.prediction.plan import PredictionPlan
    from behaviorlm_ray.prediction.pool import pool_of
    from behaviorlm_ray.prediction.rows import WARNINGS
    from behaviorlm_ray.prediction.running import (
        opened_artifact,
        plan_prediction,
        planned_manifest,
        predict_log,
    )

    begun: list[tuple[PredictionPlan, Manifest]] = []

    def check() -> None:
        planned = plan_prediction(settings, opened_artifact(settings))
        about = planned_manifest(planned)
        begin(planned.folder, about)
        begun.append((planned, about))

    with (
        shown(log_folder(storage.location(settings.to)), check),
        connected(allow_unauthenticated=settings.allow_unauthenticated_cluster),
    ):
        [(planned, about)] = begun
        summary = predict_log(planned, about, pool_of(settings))
    print("\n".join(told(summary, planned.folder, WARNINGS)))
