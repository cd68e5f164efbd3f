"""Tasks of a prediction on Ray Data: files by tasks, parts by a growing pool of actors that each hold the predictor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from behaviorlm_ray.prediction.parts import predict_task
from behaviorlm_ray.prediction.plan import PredictionPlan
from behaviorlm_ray.prediction.running import Task
from behaviorlm_ray.prediction.settings import ModelAndLog
from behaviorlm_ray.preparation.passes import run_tasks


@dataclass(frozen=True)
class Pool:
    """replicas: most copies of the predictor; None: as many as the cluster has room for when they start."""

    replicas: int | None = None
    cpus_per_replica: int = 1
    use_gpu: bool = False

    def do(self, name: str, task: Task, numbers: Sequence[int], plan: PredictionPlan, unit: str) -> None:
        """As `running.Workers`."""
        pool = self._actors(len(numbers)) if task is predict_task else None
        run_tasks(
            name, partial(_numbered, task, numbers), len(numbers), plan, unit, work="predict", pool=pool
        )

    def _actors(self, tasks: int) -> dict[str, Any]:
        found = ray.cluster_resources()
        room = found.get("GPU", 0) if self.use_gpu else found.get("CPU", 1) / self.cpus_per_replica
        most = max(1, min(tasks, self.replicas or int(room)))
        options: dict[str, Any] = {
            "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            "num_cpus": self.cpus_per_replica,
        }
        return options | ({"num_gpus": 1} if self.use_gpu else {})


def pool_of(settings: ModelAndLog) -> Pool:
    """As the keys say."""
    return Pool(settings.replicas, settings.cpus_per_replica, settings.use_gpu)


def _numbered(task: Task, numbers: Sequence[int], place: int, plan: PredictionPlan) -> dict[str, Any]:
    """A task of some numbers, called by their place."""
    return task(numbers[place], plan)
