"""Compare all arms and baselines on the test samples and write results and report."""

from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.report.results import write_results
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(
        evaluate,
        __doc__ or "",
        finish=lambda run, runner: f"wrote the report to {write_results(run, runner)}",
    )
