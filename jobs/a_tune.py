"""A-Tuning: tune the base model on anchor behaviors with auxiliary conversations."""

from behaviorlm_ray.pipeline.pipeline import Pipeline
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(Pipeline.a_tuned, __doc__ or "")
