"""What a cluster can grow to, as its autoscaler was told, and which resource a demand lacks even then."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
Resources = Mapping[str, float]


@dataclass(frozen=True)
class NodeType:
    """A kind of nodes. most: so many of it there can be."""

    name: str
    resources: Resources
    most: int


@dataclass(frozen=True)
class Limits:
    """The kinds of nodes that a cluster can have, and how many nodes in all."""

    types: tuple[NodeType, ...]
    most: int


def limits_of(config: Mapping[str, Any]) -> Limits | None:
    """What a configuration of Ray's autoscaler allows: workers, and a head that takes work.

    None where a kind of nodes does not say what it has, as of machines of one's own, which Ray looks at once they run.
    """
    types = [
        NodeType(
            name, kind.get("resources", {}), kind.get("max_workers", 0) + (name == config["head_node_type"])
        )
        for name, kind in config["available_node_types"].items()
    ]
    if not all(kind.resources for kind in types):
        return None
    return Limits(tuple(types), config["max_workers"] + 1)


def limits_of_nodes(nodes: Sequence[Resources]) -> Limits:
    """Those of a cluster that no autoscaler changes: its nodes."""
    return Limits(tuple(NodeType("node", node, 1) for node in nodes), len(nodes))


def autoscaler_limits(gcs_address: str) -> Limits | None:
    """Those of the autoscaler, where this process can read them: on the head, where `ray job submit` runs a job.

    On Kubernetes they are in the RayCluster that KubeRay keeps, which the head's account may read; elsewhere in the
    file that the autoscaler's process was started with. None where neither is found or says it.
    """
    config = _kuberay_config() if "RAY_CLUSTER_NAME" in os.environ else _monitor_config(gcs_address)
    return None if config is None else limits_of(config)


def lacking(bundle: Resources, count: int, limits: Limits) -> str | None:
    """Why `count` times these resources cannot all be had at once, ever; None where they can.

    Each is looked at as if it had the cluster to itself.
    """
    types = [kind for kind in limits.types if kind.most > 0]
    largest = {name: max((kind.resources.get(name, 0) for kind in types), default=0) for name in bundle}
    too_large = [
        f"{value:g} {name}, and the most that one node has is {largest[name]:g}"
        for name, value in bundle.items()
        if largest[name] < value
    ]
    if too_large:
        return f"no node can have {'; nor '.join(too_large)}"
    room = sorted(((_fitting(bundle, kind), kind.most) for kind in types), reverse=True)
    fitting, left = 0, limits.most
    for each, most in room:
        fitting += each * min(most, left)
        left -= min(most, left) if each else 0
    if fitting == 0:
        return "no one node can have all of these together"
    if fitting >= count:
        return None
    sums = [
        (name, value * count, sum(kind.resources.get(name, 0) * kind.most for kind in types))
        for name, value in bundle.items()
    ]
    short = [f"{need:g} {name} asked for, {most:g} at most" for name, need, most in sums if most < need]
    return (
        f"the cluster can give {fitting} of {count} at most ({'; '.join(short) or 'by its number of nodes'})"
    )


def _fitting(bundle: Resources, kind: NodeType) -> int:
    return min(
        (math.floor(kind.resources.get(name, 0) / value) for name, value in bundle.items() if value > 0),
        default=0,
    )


def _monitor_config(gcs_address: str) -> Mapping[str, Any] | None:
    """The configuration of the monitor of this cluster, found by its command line."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        given = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        path = given.get("--autoscaling-config")
        if path and given.get("--gcs-address") == gcs_address:
            try:
                config = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                return None
            return config if isinstance(config, Mapping) else None
    return None


def _kuberay_config() -> Mapping[str, Any] | None:
    """The configuration that KubeRay's autoscaler makes of the RayCluster, read as it reads it."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        namespace = NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        resource = KubernetesHttpApiClient(namespace).get(f"rayclusters/{os.environ['RAY_CLUSTER_NAME']}")
    except (OSError, ValueError):  # those of requests, too: no such account, or it may not read this
        return None
    config: Mapping[str, Any] = _derive_autoscaling_config_from_ray_cr(resource)
    return config
