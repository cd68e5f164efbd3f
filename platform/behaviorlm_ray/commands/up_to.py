"""What the commands of the pipeline share: validate first, then plan or run up to a stage, and say what was written."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from behaviorlm_ray.cluster.submission import check_storage_root
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths

if TYPE_CHECKING:
    from behaviorlm_ray.pipeline.pipeline import Pipeline, Stage

Target = Callable[["Pipeline"], "Stage"]


def run_up_to(
    target: Target,
    description: str,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
    finish: "Callable[[Pipeline], str] | None" = None,
) -> int:
    """Run, or with --dry-run plan, the pipeline up to `target`. Returns the exit status.

    finish: what to do after the target, returning what the last line says; by default it names the stage's folder.
    """

    def plan(settings: RunSettings) -> None:
        plan_up_to(target, settings)

    def main(settings: RunSettings) -> None:
        check_storage_root(settings.storage.root)
        print(_run(target, settings, finish))

    return run_job(RunSettings, main, arguments, description, plan=plan, prog=prog)


def plan_up_to(target: Target, settings: RunSettings) -> None:
    """Check the inputs, walk the stages without running any, and print the plan."""
    from behaviorlm_ray.pipeline.pipeline import Pipeline
    from behaviorlm_ray.pipeline.planning import describe_plan

    pipeline = Pipeline(with_absolute_paths(settings), planning=True)
    pipeline.check_inputs()
    target(pipeline)
    print("\n".join(describe_plan(pipeline)))


def _run(target: Target, settings: RunSettings, finish: "Callable[[Pipeline], str] | None") -> str:
    """The last line, once the stages up to `target` are there."""
    import ray

    from behaviorlm_ray.cluster.connection import connected, unused_gpus
    from behaviorlm_ray.pipeline.pipeline import Pipeline
    from behaviorlm_ray.pipeline.planning import output_folder
    from behaviorlm_ray.stages.run_record import RunRecord
    from behaviorlm_ray.stages.running import StageOutput

    pipeline = Pipeline(with_absolute_paths(settings))
    pipeline.check_inputs()
    pipeline.shared.record = RunRecord(output_folder(pipeline.settings))
    with connected(allow_unauthenticated=settings.execution.allow_unauthenticated_cluster):
        unused = unused_gpus(ray.cluster_resources(), settings.execution.tuning.use_gpu)
        if unused:
            print(unused)
        output = target(pipeline)
        assert isinstance(output, StageOutput)
        return finish(pipeline) if finish else f"wrote {output.manifest.stage} to {output.folder}"


def write_report(pipeline: "Pipeline") -> str:
    """Write results and report; what the last line says about them."""
    from behaviorlm_ray.report.results import write_results

    return f"wrote the report to {write_results(pipeline)}"
