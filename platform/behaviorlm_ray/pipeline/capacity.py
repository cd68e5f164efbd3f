"""Whether one machine holds what a run asks for: a cluster may grow, a Ray that a job starts for itself never does."""

import os
from collections.abc import Mapping

from behaviorlm.errors import ConfigError
from behaviorlm_ray.pipeline.settings import RunSettings


def capacity_here() -> dict[str, float]:
    """CPUs and GPUs of this machine, as far as a plan can tell them without Ray."""
    import torch

    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def lacking(settings: RunSettings, resources: Mapping[str, float]) -> list[str]:
    """What a run asks for and a machine with these resources will never have: it would wait without end."""
    execution, tuning = settings.execution, settings.execution.tuning
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    workers = tuning.min_workers or tuning.workers
    is_tuned = any(settings.all_arms[arm].tuning != "untuned" for arm in settings.evaluation.arms)
    problems = []
    if tuning.use_gpu and gpus == 0:
        problems.append(
            "execution.tuning.use_gpu: this machine has no GPU (that PyTorch can use); set it to false, or set "
            "RAY_ADDRESS to a cluster with some"
        )
    elif tuning.use_gpu and is_tuned and workers > gpus:
        problems.append(
            f"execution.tuning.workers: {workers} workers need a GPU each, and this machine has {gpus}; ask for "
            f"{gpus}, or set RAY_ADDRESS to a cluster"
        )
    if is_tuned and workers * tuning.cpus_per_worker > cpus:
        problems.append(
            f"execution.tuning: {workers} workers of {tuning.cpus_per_worker} CPUs are more than the {cpus} of this "
            "machine; lower workers or cpus_per_worker, or set RAY_ADDRESS to a cluster"
        )
    if execution.cpus_per_actor > cpus:
        problems.append(
            f"execution.cpus_per_actor: {execution.cpus_per_actor} CPUs are more than the {cpus} of this machine; "
            "lower it, or set RAY_ADDRESS to a cluster"
        )
    return problems


def require_capacity(settings: RunSettings, resources: Mapping[str, float]) -> None:
    """Raise ConfigError with all of `lacking`."""
    if problems := lacking(settings, resources):
        raise ConfigError("\n".join(problems))
