"""Compare all arms and baselines on the test samples and write results and report."""

from behaviorlm_ray.pipeline.pipeline import Pipeline
from behaviorlm_ray.report.results import write_results
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(
        Pipeline.evaluated,
        __doc__ or "",
        finish=lambda pipeline: f"wrote the report to {write_results(pipeline)}",
    )
