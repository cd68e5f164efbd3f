"""Says, while a job waits for machines, what it waits for and why the autoscaler does not deliver.

A job never refuses because the cluster is small now: it may grow. But silence for hours is worse than a refusal.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RpcError

from behaviorlm_ray.cluster.limits import Limits, autoscaler_limits, lacking, limits_of_nodes

WAIT_SECONDS = 30.0
"""After so long, and then so often, a job says what it waits for."""

FAILURE_SECONDS = 900.0
"""Failed launches of the last so many seconds are told as the reason."""

Resources = Mapping[str, float]


@contextmanager
def telling_what_is_waited_for(
    report: Callable[[str], None] = print, every_seconds: float = WAIT_SECONDS
) -> Iterator[None]:
    """Watch the cluster that this process is connected to from a thread; report lines of `waiting_message`."""
    stop = threading.Event()
    address = ray.get_runtime_context().gcs_address
    watcher = threading.Thread(
        target=_watch, args=(address, report, every_seconds, stop), name="waiting for resources", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        stop.set()


def waiting_message(status: ClusterStatus, limits: Limits | None = None) -> str | None:
    """One line on demand that no node can serve and what the autoscaler does about it; None if there is none.

    Work that waits only because nodes are busy with other work is not told, but for workers that must start together.
    limits: what the autoscaler may grow the cluster to, where that is known; what never fits is then told.
    """
    waited = unserved(status)
    if not waited:
        return None
    asked = ", ".join(f"{count} x {_words(dict(bundle))}" for bundle, count in waited.items())
    total, free = status.total_resources(), status.available_resources()
    has = ", ".join(
        f"{total[name]:g} {name} ({free.get(name, 0):g} free)" for name in sorted(total) if _is_shown(name)
    )
    nodes = len(status.active_nodes) + len(status.idle_nodes)
    return f"waiting for {asked}; the cluster has {nodes} node(s) with {has or 'no CPU'}; {_reason(status, limits)}"


def unserved(status: ClusterStatus) -> Counter[tuple[tuple[str, float], ...]]:
    """Demand by its resources: tasks and actors for which no node is large enough, and groups that are not placed."""
    nodes = [node.total_resources() for node in [*status.active_nodes, *status.idle_nodes]]
    waited: Counter[tuple[tuple[str, float], ...]] = Counter()
    for demand in status.resource_demands.ray_task_actor_demand:
        for each in demand.bundles_by_count:
            if not any(_fits(each.bundle, node) for node in nodes):
                waited[tuple(sorted(each.bundle.items()))] += each.count
    for group in status.resource_demands.placement_group_demand:
        for each in group.bundles_by_count:
            plain = {name: value for name, value in each.bundle.items() if "_group_" not in name}
            waited[tuple(sorted(plain.items()))] += each.count
    return waited


def _reason(status: ClusterStatus, limits: Limits | None) -> str:
    """Why nodes are not there yet, as far as the autoscaler tells."""
    reasons: list[str] = []
    is_fixed = status.stats.autoscaler_version in (None, "", "0")
    if is_fixed:
        nodes = [node.total_resources() for node in [*status.active_nodes, *status.idle_nodes]]
        limits = limits_of_nodes(nodes)
    if limits is not None:
        never = (lacking(dict(bundle), count, limits) for bundle, count in unserved(status).items())
        reasons += dict.fromkeys(reason for reason in never if reason)
    if is_fixed:
        return "; ".join([*reasons, "no autoscaler runs on it: add nodes, or ask for less (execution.*)"])
    if reasons:
        reasons.append(
            "raise max_workers or add a node type (the cluster's YAML), or ask for less (execution.*)"
        )
    starting: Counter[str] = Counter()
    for launch in status.pending_launches:
        starting[launch.ray_node_type_name] += launch.count
    for node in status.pending_nodes:
        starting[node.ray_node_type_name] += 1
    if starting:
        reasons.append(
            "starting " + ", ".join(f"{count} x {kind}" for kind, count in sorted(starting.items()))
        )
    recent = time.time() - FAILURE_SECONDS
    failed = [launch for launch in status.failed_launches if (launch.failed_ts_s or 0) >= recent]
    if failed:
        last = max(failed, key=lambda launch: launch.failed_ts_s or 0)
        reasons.append(f"a launch of {last.ray_node_type_name} failed: {last.details or 'no details'}")
    return "; ".join(reasons) or (
        "the autoscaler starts nothing: no node type is large enough, or max_workers is reached "
        "(`ray status`, and the cluster's YAML)"
    )


def _watch(address: str, report: Callable[[str], None], every_seconds: float, stop: threading.Event) -> None:
    previous: set[tuple[tuple[str, float], ...]] = set()
    while not stop.wait(every_seconds):
        try:
            status = get_cluster_status(address)
        except RpcError:
            continue  # The head may be away for a moment; the job itself will say so if it stays away.
        waited = set(unserved(status))
        lasting = waited & previous
        previous = waited
        message = waiting_message(status, autoscaler_limits(address)) if lasting else None
        if message is not None and not stop.is_set():
            report(message)


def _fits(bundle: Resources, node: Resources) -> bool:
    return all(node.get(name, 0) >= value for name, value in bundle.items())


def _words(bundle: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in bundle.items()) + "}"


def _is_shown(name: str) -> bool:
    """Not a node's own tag, nor memory, which is told in bytes and seldom the reason."""
    return not name.startswith(("node:", "object_store_memory", "memory")) and "_group_" not in name
