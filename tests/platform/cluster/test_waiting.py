"""What a job says while it waits for machines, about a real Ray and about states of an autoscaler."""

import threading
import time
from collections.abc import Callable

import pytest
import ray
from ray.autoscaler.v2.schema import (
    ClusterStatus,
    LaunchRequest,
    PlacementGroupResourceDemand,
    RayTaskActorDemand,
    ResourceDemandSummary,
    ResourceRequestByCount,
    Stats,
)
from ray.exceptions import RpcError

from behaviorlm_ray.cluster import waiting
from behaviorlm_ray.cluster.waiting import telling_what_is_waited_for, waiting_message


@pytest.mark.usefixtures("ray_cluster")
def test_a_job_that_waits_says_for_what_and_stays_quiet_when_it_has_it() -> None:
    lines: list[str] = []

    @ray.remote(num_cpus=1, resources={"unobtainable": 1})
    def never() -> None:
        pass

    with telling_what_is_waited_for(lines.append, every_seconds=0.5):
        waiting = never.remote()
        _wait_for(lambda: bool(lines))
        ray.cancel(waiting)
    assert "waiting for 1 x {CPU: 1, unobtainable: 1}" in lines[0]
    assert "1 node(s) with 4 CPU" in lines[0]
    assert "no autoscaler runs on it" in lines[0]

    quiet: list[str] = []
    with telling_what_is_waited_for(quiet.append, every_seconds=0.2):
        ray.get([_short.options(num_cpus=4).remote() for _ in range(4)])
    assert not [line for line in quiet if "unobtainable" not in line]


@ray.remote
def _short() -> None:
    time.sleep(0.3)


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing was said"
        time.sleep(0.1)


def status(**changes: object) -> ClusterStatus:
    asked = ResourceRequestByCount({"GPU": 1.0, "CPU": 2.0}, 3)
    demand = ResourceDemandSummary(ray_task_actor_demand=[RayTaskActorDemand([asked])])
    found = ClusterStatus(resource_demands=demand, stats=Stats(autoscaler_version="7"))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def launch(state: LaunchRequest.Status, **more: object) -> LaunchRequest:
    return LaunchRequest("g5.2xlarge", "gpu_spot", 2, state, 0, **more)  # type: ignore[arg-type]


def test_the_reason_is_what_the_autoscaler_does() -> None:
    starting = waiting_message(status(pending_launches=[launch(LaunchRequest.Status.PENDING)]))
    assert starting is not None and starting.endswith("starting 2 x gpu_spot")
    failed = launch(LaunchRequest.Status.FAILED, failed_ts_s=time.time(), details="no capacity in us-west-2a")
    told = waiting_message(status(failed_launches=[failed]))
    assert told is not None
    assert told.startswith("waiting for 3 x {CPU: 2, GPU: 1}; the cluster has 0 node(s)")
    assert told.endswith("a launch of gpu_spot failed: no capacity in us-west-2a")
    old = launch(LaunchRequest.Status.FAILED, failed_ts_s=1, details="long ago")
    nothing = waiting_message(status(failed_launches=[old]))
    assert nothing is not None and "no node type is large enough, or max_workers is reached" in nothing
    none = waiting_message(status(stats=Stats(autoscaler_version="0")))
    assert none is not None and "no autoscaler runs on it" in none


def test_groups_that_are_not_placed_are_told_and_no_demand_is_silence() -> None:
    bundle = ResourceRequestByCount({"CPU": 1.0, "CPU_group_abc": 0.001}, 2)
    group = PlacementGroupResourceDemand([bundle], "abc:PACK|PENDING")
    told = waiting_message(status(resource_demands=ResourceDemandSummary(placement_group_demand=[group])))
    assert told is not None and "waiting for 2 x {CPU: 1}" in told
    assert waiting_message(status(resource_demands=ResourceDemandSummary())) is None


def test_a_head_that_is_away_for_a_moment_is_waited_for_and_a_fault_of_ours_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[ClusterStatus | Exception] = [RpcError("away"), status(), RpcError("away"), status()]

    def asked(address: str) -> ClusterStatus:
        if not answers:
            stop.set()
            raise TypeError("not an answer of Ray's")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(waiting, "get_cluster_status", asked)
    lines: list[str] = []
    stop = threading.Event()
    with pytest.raises(TypeError, match="not an answer"):
        waiting._watch("head", lines.append, 0.001, stop)
    assert len(lines) == 1 and lines[0].startswith("waiting for 3 x {CPU: 2, GPU: 1}")
