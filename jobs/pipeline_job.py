"""What the jobs of the pipeline share: validate everything first, plan or run up to a stage, say what was written."""

import sys
from collections.abc import Callable

import ray

from behaviorlm_ray.cluster.connection import check_storage_root, connected, unused_gpus
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.planning import describe_plan
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage

Goal = Callable[[Run], Stage]


def run_up_to(goal: Goal, description: str, finish: Callable[[Run, Runner], str] | None = None) -> None:
    """Run, or with --dry-run plan, a run up to a stage; exits the process.

    finish: what to do after it, returning what the last line says; by default it names the stage's folder.
    """

    def plan(settings: RunSettings) -> None:
        run = open_run(with_absolute_paths(settings))
        check_inputs(run, is_written=False)
        print("\n".join(describe_plan(run, goal(run))))

    def main(settings: RunSettings) -> None:
        check_storage_root(settings.storage.root)
        run = open_run(with_absolute_paths(settings))
        check_inputs(run, is_written=True)
        runner = run.runner(RunRecord(run.output_folder))
        with connected(allow_unauthenticated=settings.execution.allow_unauthenticated_cluster):
            unused = unused_gpus(ray.cluster_resources(), settings.execution.tuning.use_gpu)
            if unused:
                print(unused)
            output = runner.run(goal(run))
            last = finish(run, runner) if finish else f"wrote {output.manifest.stage} to {output.folder}"
        print(last)

    sys.exit(run_job(RunSettings, main, description=description, plan=plan))
