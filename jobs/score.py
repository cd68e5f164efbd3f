"""Score the difficulty of every training sample."""

from behaviorlm_ray.pipeline.pipeline import Pipeline
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(Pipeline.difficulty, __doc__ or "")
