"""What the commands of the pipeline share: validate first, then plan or run up to a stage, and say what was written."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from behaviorlm_ray.cluster.submission import check_storage_root
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.console.shown import fitted, log_folder, shown
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths

if TYPE_CHECKING:
    from behaviorlm_ray.pipeline.run import Run
    from behaviorlm_ray.stages.stage import Stage

Goal = Literal["prepare", "a_tune", "score", "select", "b_tune", "evaluate"]


def run_up_to(
    goal: Goal, description: str, arguments: Sequence[str] | None = None, prog: str | None = None
) -> int:
    """Run, or with --dry-run plan, a run up to a stage. Returns the exit status.

    After `evaluate` the results and the report are written.
    """

    def plan(settings: RunSettings) -> None:
        _plan(goal, settings)

    def main(settings: RunSettings) -> None:
        check_storage_root(settings.storage.root)
        print(fitted(_run(goal, settings)))

    return run_job(RunSettings, main, arguments, description, plan=plan, prog=prog)


def _declared(goal: Goal) -> "Callable[[Run], Stage]":
    """What declares the stage; loads what all stages need."""
    from behaviorlm_ray.pipeline import b_tune, evaluate, prepare, score, select, tune

    declared: dict[Goal, Callable[[Run], Stage]] = {
        "prepare": prepare.prepare,
        "a_tune": tune.a_tune,
        "score": score.score,
        "select": select.select,
        "b_tune": b_tune.b_tune,
        "evaluate": evaluate.evaluate,
    }
    return declared[goal]


def _plan(goal: Goal, settings: RunSettings) -> None:
    """Check the inputs and print the plan."""
    from behaviorlm_ray.pipeline.input_checks import check_inputs
    from behaviorlm_ray.pipeline.planning import describe_plan
    from behaviorlm_ray.pipeline.run import open_run

    run = open_run(with_absolute_paths(settings))
    with shown(None, lambda: check_inputs(run, is_written=False)):
        lines = describe_plan(run, _declared(goal)(run))
    print("\n".join(lines))


def _run(goal: Goal, settings: RunSettings) -> str:
    """The last line, once the stages up to the goal are there."""
    import ray

    from behaviorlm_ray.cluster.connection import connected, unused_gpus
    from behaviorlm_ray.cluster.surroundings import ray_address
    from behaviorlm_ray.pipeline.capacity import capacity_here, require_capacity
    from behaviorlm_ray.pipeline.input_checks import check_inputs
    from behaviorlm_ray.pipeline.run import open_run
    from behaviorlm_ray.report.results import write_results
    from behaviorlm_ray.stages.run_record import RunRecord
    from behaviorlm_ray.tracking.registering import tell_results
    from behaviorlm_ray.tracking.tracking import tracked

    run = open_run(with_absolute_paths(settings))
    # with a Ray of its own, which never grows, and a model to run
    is_alone = ray_address() == "local" and goal != "prepare"

    def look() -> None:
        if is_alone and not ray.is_initialized():
            require_capacity(settings, capacity_here())
        check_inputs(run, is_written=True)
        if goal != "prepare" and run.inputs.precision.by_hardware:
            screen().says(run.inputs.precision.told)

    with shown(log_folder(run.output_folder), look), tracked(run) as tracking:
        runner = run.runner(RunRecord(run.output_folder))
        runner.follow = tracking.stage_ended
        with connected(allow_unauthenticated=settings.execution.allow_unauthenticated_cluster):
            if is_alone:
                require_capacity(settings, ray.cluster_resources())
            unused = unused_gpus(ray.cluster_resources(), settings.execution.tuning.use_gpu)
            if unused:
                screen().says(unused)
            output = runner.run(_declared(goal)(run))
        report = write_results(run, runner) if goal == "evaluate" else None
        if report is not None:
            tell_results(run, tracking)
    if goal == "prepare":
        from behaviorlm_ray.pipeline.prepare import described

        lines = [*described(output, run.settings), f"wrote prepare to {output.folder}"]
    elif report is None:
        lines = [f"wrote {output.manifest.stage} to {output.folder}"]
    else:
        lines = [*report.lines, f"wrote the report to {report.place}"]
    return "\n".join([*lines, *tracking.lines])
