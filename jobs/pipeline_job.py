"""What the jobs of the pipeline share: validate everything first, plan or run up to a stage, say what was written."""

import sys
from collections.abc import Callable

import ray

from behaviorlm_ray.cluster.connection import connected, unused_gpus
from behaviorlm_ray.cluster.submission import check_storage_root
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.pipeline.pipeline import Pipeline, Stage
from behaviorlm_ray.pipeline.planning import describe_plan, output_folder
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import StageOutput

Target = Callable[[Pipeline], Stage]


def run_up_to(target: Target, description: str, finish: Callable[[Pipeline], str] | None = None) -> None:
    """Run, or with --dry-run plan, the pipeline up to `target`; exits the process.

    finish: what to do after the target, returning what the last line says; by default it names the stage's folder.
    """

    def plan(settings: RunSettings) -> None:
        pipeline = Pipeline(with_absolute_paths(settings), planning=True)
        pipeline.check_inputs()
        target(pipeline)
        print("\n".join(describe_plan(pipeline)))

    def main(settings: RunSettings) -> None:
        check_storage_root(settings.storage.root)
        pipeline = Pipeline(with_absolute_paths(settings))
        pipeline.check_inputs()
        pipeline.shared.record = RunRecord(output_folder(pipeline.settings))
        with connected(allow_unauthenticated=settings.execution.allow_unauthenticated_cluster):
            unused = unused_gpus(ray.cluster_resources(), settings.execution.tuning.use_gpu)
            if unused:
                print(unused)
            output = target(pipeline)
            assert isinstance(output, StageOutput)
            last = finish(pipeline) if finish else f"wrote {output.manifest.stage} to {output.folder}"
        print(last)

    sys.exit(run_job(RunSettings, main, description=description, plan=plan))
