"""Asks the autoscaler's own scheduler which nodes it would start for a demand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil


def launched(
    config: Mapping[str, Any], demand: Sequence[dict[str, float]], failed: Sequence[str] = ()
) -> dict[str, int]:
    """Nodes by type that would be started for tasks which ask for `demand`.

    failed: node types of which a launch has just failed.
    """
    known = AutoscalingConfig(dict(config), skip_content_hash=True)
    requests = [ResourceRequestUtil.make(dict(resources)) for resources in demand]
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=known.get_node_type_configs(),
            max_num_nodes=known.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(requests),
            cloud_resource_availabilities=dict.fromkeys(failed, 0.0),
            recoverable_resource_availabilities=dict.fromkeys(failed, 0.0),
        )
    )
    counts: Counter[str] = Counter()
    for launch in reply.to_launch:
        counts[launch.instance_type] += launch.count
    return {name: count for name, count in counts.items() if count and name != known.get_head_node_type()}
