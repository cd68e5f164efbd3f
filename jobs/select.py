"""Choose the balanced subset for B-Tuning."""

from behaviorlm_ray.pipeline.select import select
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(select, __doc__ or "")
