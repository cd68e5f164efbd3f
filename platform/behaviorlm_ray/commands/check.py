"""Check an exported predictor on a new log: keep it, recalibrate it, or tune again, with the figures.

%(prog)s --model exported/my_app --log new/ [--since 2024-03-01] [--recalibrate --to exported/my_app_2]
"""

from collections.abc import Sequence

from behaviorlm.errors import ModelError
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.console.shown import log_folder, shown
from behaviorlm_ray.prediction.named_model import check_named_model
from behaviorlm_ray.prediction.settings import CheckSettings

GRAVER = {"nothing": (), "recalibrate": ("recalibrate", "tune again"), "tune_again": ("tune again",)}
"""Verdicts that end with another exit status, by `fail_on`."""


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Check, or plan it. Returns the exit status."""
    return run_job(
        CheckSettings, check, arguments, __doc__ or "", plan=plan, prog=prog, flags=("recalibrate",)
    )


def plan(settings: CheckSettings) -> None:
    """Say what would be predicted."""
    check_named_model(settings.model)
    from behaviorlm_ray.prediction.checking import plan_check, work_folder
    from behaviorlm_ray.prediction.recalibrating import check_target
    from behaviorlm_ray.prediction.running import described

    with shown(None), work_folder(settings) as folder:
        if settings.to is not None:
            check_target(settings.to)
        lines = described(plan_check(settings, folder).plan)
    print("\n".join(lines))


def check(settings: CheckSettings) -> None:
    """Predict, judge, and write what was asked for."""
    check_named_model(settings.model)
    from behaviorlm_ray.cluster.connection import connected
    from behaviorlm_ray.prediction import checking, recalibrating
    from behaviorlm_ray.prediction.folder import begin
    from behaviorlm_ray.prediction.pool import pool_of

    planned: list[checking.PlannedCheck] = []
    with checking.work_folder(settings) as folder:

        def look() -> None:
            if settings.to is not None:
                recalibrating.check_target(settings.to)
            planned.append(checking.plan_check(settings, folder))
            begin(folder, planned[0].manifest)

        with (
            shown(log_folder(folder), look),
            connected(allow_unauthenticated=settings.allow_unauthenticated_cluster),
        ):
            found = checking.check(planned[0], pool_of(settings), settings.limits, settings.bootstrap_samples)
            lines = found.judgment.lines
            if settings.to is not None:
                fitted = recalibrating.fit(found)
                recalibrating.write_recalibrated(found, fitted, settings.model, settings.to)
                lines += recalibrating.told(fitted, settings.to)
    print("\n".join(lines))
    if found.judgment.verdict in GRAVER[settings.fail_on]:
        raise ModelError(f"the verdict is {found.judgment.verdict!r}, and fail_on is {settings.fail_on}")
