"""A single stage, run by what is said of it."""

from collections.abc import Callable, Mapping
from typing import Any

from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.stages.running import LEASE_SECONDS, Report, StageCall, run_group
from behaviorlm_ray.storage import Location


def run_stage(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str],
    body: Callable[[StageFolder], StageResult],
    *,
    lease_seconds: float = LEASE_SECONDS,
    report: Report = print,
) -> StageOutput:
    """The output of a group of one."""
    call = StageCall(name, version, config, inputs, body)
    [output] = run_group(root, [call], lease_seconds=lease_seconds, report=report)
    return output
