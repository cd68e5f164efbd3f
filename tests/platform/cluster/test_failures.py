"""Full memory is told from other failures, as Ray and Ray Train hand them on."""

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import OutOfMemoryError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from behaviorlm.errors import ModelError
from behaviorlm_ray.cluster.failures import causes, memory_problem


def test_full_memory_is_seen_through_what_wraps_it() -> None:
    killed = OutOfMemoryError("Task was killed due to the node running low on memory.")
    worker_died = WorkerHealthCheckFailedError("A worker health check failed.", killed)
    with pytest.raises(RuntimeError) as allocating:
        torch.empty(2**50)
    with pytest.raises(MemoryError) as numpy_allocating:
        np.zeros(2**50)
    for error in (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        killed,
        worker_died,
        allocating.value,
        ControllerError(allocating.value),
        numpy_allocating.value,
    ):
        assert memory_problem(error), error
    told = memory_problem(worker_died)
    assert told == "OutOfMemoryError: Task was killed due to the node running low on memory."


def test_other_failures_are_not_taken_for_full_memory() -> None:
    for error in (RuntimeError("shapes do not match"), ModelError("no model"), WorkerGroupError("died", {})):
        assert memory_problem(error) is None


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_task_raised_is_found_below_rays_error() -> None:
    @ray.remote(max_retries=0)
    def allocate(numbers: int) -> None:
        if numbers < 2**40:
            raise ModelError("too few")
        torch.empty(numbers)

    with pytest.raises(RayTaskError) as raised:
        ray.get(allocate.remote(2**50))
    told = memory_problem(raised.value)
    assert told is not None and "DefaultCPUAllocator" in told
    with pytest.raises(RayTaskError) as raised:
        ray.get(allocate.remote(1))
    assert any(type(cause) is ModelError for cause in causes(raised.value))
