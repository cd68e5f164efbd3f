"""Run the whole pipeline: prepare, A-Tuning, score, select, B-Tuning, evaluate, report."""

from behaviorlm_ray.pipeline.pipeline import Pipeline, Stage
from behaviorlm_ray.report.results import write_results
from jobs.pipeline_job import run_up_to


def whole(pipeline: Pipeline) -> Stage:
    """Every stage in the order in which a person thinks of them."""
    pipeline.prepared()
    pipeline.check_samples()
    if "ab_tuned" in pipeline.settings.evaluation.arms:
        pipeline.a_tuned()
        pipeline.difficulty()
        pipeline.selected()
        pipeline.ab_tuned()
    return pipeline.evaluated()


if __name__ == "__main__":
    run_up_to(whole, __doc__ or "", finish=lambda pipeline: f"wrote the report to {write_results(pipeline)}")
