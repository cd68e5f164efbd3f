"""The stages that tune on a subset: `b_tune` and its rungs, where the A-tuned (or one-stage tuned) model goes on, and
`thinned`, from the base.
"""

from dataclasses import replace

from behaviorlm.training.balance import shown_counts
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.select import drawn, select, selected_samples
from behaviorlm_ray.pipeline.tune import a_tune, one_stage, start, tuning_stage
from behaviorlm_ray.pipeline.tuning_plan import TuningPlan, described_steps
from behaviorlm_ray.stages.stage import Made, Stage


def b_tune(run: Run, stop_step: int | None = None, continues: Stage | None = None) -> Stage:
    """B-Tuning, or the first steps of it, exactly as the whole one has them.

    continues: a rung of it to go on from.
    """
    settings = run.settings
    mixed = settings.auxiliary_in_b_tuning
    tuning = TuningPlan("b_tuning", settings.b_tuning, "selected", mixed=mixed, stop_step=stop_step)
    name = "b_tune" if stop_step is None else f"b_tune_step_{stop_step}"
    inputs = {"start": start(run), "selection": select(run)}
    return _on_subset(run, name, tuning, inputs, continues)


def thinned(run: Run) -> Stage:
    """One-stage tuning on the subset that is drawn at random: what balance is worth without two stages."""
    settings = run.settings
    tuning = TuningPlan("one_stage", settings.one_stage, "selected", mixed=settings.auxiliary_in_one_stage)
    return _on_subset(run, "thinned", tuning, {"selection": drawn(run)})


def _on_subset(
    run: Run, name: str, tuning: TuningPlan, inputs: dict[str, Stage], continues: Stage | None = None
) -> Stage:
    settings = run.settings

    def estimate(made: Made) -> str | None:
        if "prepared" not in made:
            return None
        selected = selected_samples(open_log(made["prepared"], settings), settings)
        return described_steps(tuning, int(shown_counts(selected, settings.loss.oversample).sum()))

    return replace(tuning_stage(run, name, tuning, inputs, continues), estimate=estimate)


def tuned_model(run: Run, tuning: Tuning) -> Stage | None:
    """The stage whose model an arm is; None: the base as it came."""
    match tuning:
        case "untuned":
            return None
        case "one_stage":
            return one_stage(run)
        case "thinned":
            return thinned(run)
        case "a_tuned":
            return a_tune(run)
        case "ab_tuned":
            return b_tune(run)
