"""B-Tuning: go on from the A-tuned model on the selected subset."""

from behaviorlm_ray.pipeline.b_tune import b_tune
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(b_tune, __doc__ or "")
