"""Score the difficulty of every training sample."""

from behaviorlm_ray.pipeline.score import score
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(score, __doc__ or "")
