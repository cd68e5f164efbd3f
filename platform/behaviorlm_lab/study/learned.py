"""The stage `learned`: the measures of difficulty once more, of the same samples, by the model after B-Tuning."""

from behaviorlm_ray.pipeline import score
from behaviorlm_ray.pipeline.b_tune import b_tune
from behaviorlm_ray.pipeline.prepare import prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.stages.stage import Stage


def learned(run: Run) -> Stage:
    """Of one arm, which has B-Tuning."""
    limits = run.settings.difficulty
    return Stage(
        name="learned",
        version=score.VERSION,
        identity={
            "samples": {"max_per_behavior": limits.max_per_behavior, "seed": limits.seed},
            "model": run.model_identity,
            **run.scoring_identity,
        },
        inputs={"prepared": prepare(run), "base": run.inputs.base, "model": b_tune(run)},
        body=lambda folder, made: score.score_difficulty(folder, made, run.resolved),
        arm=run.arm,
    )
