"""Read the log, split it, cut the vocabulary and tokenize it."""

from behaviorlm_ray.pipeline.prepare import prepare
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(prepare, __doc__ or "")
