"""What each worker of a fit does: one tuning task after another, each as if it were the first of the process.

What tunes is imported with the first task, as a worker that is started to end needs none of it.
"""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
import ray.train
import torch.distributed as dist
from ray import cloudpickle

from behaviorlm.errors import BehaviorLMError, ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from behaviorlm_ray.tuning.worker import TuningTask


def work(desk: Any) -> None:
    """Take tasks from the desk until there will be no more. What only some workers meet is raised, for Ray Train."""
    rank = dist.get_rank()
    ray.get(desk.join.remote(ray.get_runtime_context().current_actor, rank))
    last = None
    while (given := ray.get(desk.take.remote(last))) is not None:
        last, pickled = given
        outcome = carry_out(cloudpickle.loads(pickled), ray.train.report, _is_preempted)
        if rank == 0:
            ray.get(desk.tell.remote(cloudpickle.dumps(outcome)))


def carry_out(
    task: "TuningTask", report: Callable[[dict[str, Any]], None], preempted: Callable[[], bool]
) -> dict[str, Any] | BehaviorLMError:
    """What `tune_rank` returns, or raises on all workers alike: raised, that would be tried again for nothing.

    What it does not depend on is what this process carried out before.
    """
    from behaviorlm_ray.tuning.engine import prepare_process
    from behaviorlm_ray.tuning.worker import tune_rank

    prepare_process(task.execution)
    try:
        return tune_rank(task, report, preempted)
    except (ConfigError, DataError, ModelError) as error:
        return error
    finally:
        gc.collect()  # models and engines refer to themselves in circles


def _is_preempted() -> bool:
    """Whether a machine of the run has been given notice; Ray Train answers alike on all workers."""
    return ray.train.get_preemption_info() is not None
