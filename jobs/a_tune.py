"""A-Tuning: tune the base model on anchor behaviors with auxiliary conversations."""

from behaviorlm_ray.pipeline.tune import a_tune
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(a_tune, __doc__ or "")
