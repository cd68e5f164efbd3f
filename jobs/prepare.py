"""Read the log, split it, cut the vocabulary and tokenize it."""

from behaviorlm_ray.pipeline.pipeline import Pipeline
from jobs.pipeline_job import run_up_to

if __name__ == "__main__":
    run_up_to(Pipeline.prepared, __doc__ or "")
