"""B-Tuning: go on from the A-tuned model on the selected subset."""

from behaviorlm_ray.pipeline.pipeline import Pipeline
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(Pipeline.ab_tuned, __doc__ or "")
