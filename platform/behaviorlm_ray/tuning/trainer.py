"""The driver's side of a tuning: workers that are warm where there are such, and the outcome."""

from dataclasses import dataclass
from typing import Any

import ray

from behaviorlm.errors import BehaviorLMError, ClusterError
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.kept import Kept
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.crew import Crew
from behaviorlm_ray.tuning.failed_workers import WorkerOutOfMemory
from behaviorlm_ray.tuning.worker import LINEAGE, TuningTask

_kept: Kept[Crew] = Kept()
"""The crew of the last tuning of this process, for the next one."""


@dataclass(frozen=True)
class TuningResult:
    """What a tuning run left behind. `loss`: of the last step, before its update; `seconds`: of all steps."""

    lineage: Location
    steps: int
    loss: float
    samples: int
    tokens: int
    seconds: float


def tune(task: TuningTask) -> TuningResult:
    """Tune a model with Ray Train and DeepSpeed, from the newest checkpoint in the task's folder if there is one.

    Both folders of the task must be reachable from every worker: on S3, or on a file system that all nodes share.
    Tokens, samples and seconds are counted from the task's first_step. Writes model/, loss.jsonl (one line a step) and
    lineage.jsonl (the samples of each step) to the output folder. Needs an initialized Ray. Raises the error of a
    worker where it is ours, else ClusterError. Its workers stay for a while, for the next tuning (`cluster.kept`).
    """
    if not ray.is_initialized():
        raise ClusterError("tuning needs a Ray cluster: call ray.init() first")
    storage.make_folder(task.checkpoint_folder)
    crew = _kept.take()
    if crew is not None and not crew.is_fit_for(task.execution):
        crew.close()
        crew = None
    if crew is None:
        screen().progresses("tuning", "its workers start")
    summary = _tuned(crew or Crew(task.execution), task)
    return TuningResult(task.output_folder / LINEAGE, **summary)


def _tuned(crew: Crew, task: TuningTask) -> dict[str, Any]:
    try:
        outcome = crew.tune(task)
    except WorkerOutOfMemory as error:
        raise ClusterError(
            f"{error}. It would again, so it is not tried again. Lower this tuning's max_tokens "
            f"({task.config.max_tokens}; a_tuning.max_tokens, b_tuning.max_tokens or one_stage.max_tokens), set "
            "execution.tuning.activation_checkpointing=true, or take larger machines"
        ) from error
    if isinstance(outcome, BehaviorLMError):
        crew.close()  # an error may leave anything behind
        raise outcome
    if task.execution.zero_stage == 3:
        crew.close()  # DeepSpeed would hold the model in memory for as long as its process
    else:
        _kept.keep(crew)
    return outcome
