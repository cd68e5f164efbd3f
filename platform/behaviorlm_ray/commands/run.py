"""Run the whole pipeline: prepare, A-Tuning, score, select, B-Tuning, evaluate, report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from behaviorlm_ray.commands.up_to import run_up_to, write_report

if TYPE_CHECKING:
    from behaviorlm_ray.pipeline.pipeline import Pipeline, Stage


def whole(pipeline: "Pipeline") -> "Stage":
    """Every stage in the order in which a person thinks of them."""
    pipeline.prepared()
    pipeline.check_samples()
    if "ab_tuned" in pipeline.settings.evaluation.arms:
        pipeline.a_tuned()
        pipeline.difficulty()
        pipeline.selected()
        pipeline.ab_tuned()
    return pipeline.evaluated()


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run or plan. Returns the exit status."""
    return run_up_to(whole, __doc__ or "", arguments, prog, finish=write_report)
