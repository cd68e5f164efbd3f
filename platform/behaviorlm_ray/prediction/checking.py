"""A check: every position of a new log is predicted, measured as the export was, and judged."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.metrics.intervals import percentile_intervals, resample
from behaviorlm.metrics.tables import reliability
from behaviorlm.predictor.artifact import Artifact
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.surroundings import ray_address
from behaviorlm_ray.export.measuring import CALIBRATED_ON
from behaviorlm_ray.prediction.checked_positions import CheckedPositions, read_checked
from behaviorlm_ray.prediction.drift import drift
from behaviorlm_ray.prediction.folder import Manifest
from behaviorlm_ray.prediction.judgment import Judgment, judge
from behaviorlm_ray.prediction.plan import PredictionPlan, Wanted, order_of
from behaviorlm_ray.prediction.running import (
    Workers,
    counted,
    opened_artifact,
    plan_over,
    planned_manifest,
    predict_log,
)
from behaviorlm_ray.prediction.settings import CheckSettings, Limits
from behaviorlm_ray.storage import Location

REPORT = "check.json"
LEAST_POSITIONS = 50
"""Positions whose next event is known without which nothing is said (our choice)."""


@dataclass(frozen=True)
class PlannedCheck:
    """What is predicted for a check, and of which predictor."""

    artifact: Artifact
    plan: PredictionPlan
    manifest: Manifest


@dataclass(frozen=True)
class Checked:
    """What came of it. log: the hash of its content."""

    artifact: Artifact
    positions: CheckedPositions
    judgment: Judgment
    log: str


@contextmanager
def work_folder(settings: CheckSettings) -> Iterator[Location]:
    """Where predictions lie: the folder that was named, or one that is gone after the block. Raises ConfigError."""
    if settings.work is not None:
        yield storage.location(settings.work)
        return
    if ray_address() != "local":
        raise ConfigError("work: a cluster needs a folder that every machine reaches, or s3://bucket/prefix")
    with tempfile.TemporaryDirectory(prefix="behaviorlm-check-") as folder:
        yield storage.location(folder)


def plan_check(settings: CheckSettings, folder: Location) -> PlannedCheck:
    """Look at everything that is read. Raises ConfigError or DataError."""
    artifact = opened_artifact(settings)

    def wanted(mapping: EventsConfig) -> Wanted:
        text = settings.since
        return Wanted("every", since=None if text is None else order_of("since", text, mapping))

    plan = plan_over(settings, artifact, str(folder), wanted, k=1)
    if settings.recalibrate:
        *_, positions = counted(plan)
        every = -(-positions * len(artifact.behaviors) // CALIBRATED_ON)
        plan = replace(plan, kept_every=max(1, every))
    return PlannedCheck(artifact, plan, planned_manifest(plan))


def check(planned: PlannedCheck, workers: Workers, limits: Limits, bootstrap_samples: int) -> Checked:
    """Predict, measure and judge; the figures go into check.json beside the predictions. Raises DataError where there
    is too little to judge by.
    """
    plan, artifact = planned.plan, planned.artifact
    summary = predict_log(plan, planned.manifest, workers)
    positions = read_checked(plan.folder, summary, artifact)
    if len(positions.outcomes) < LEAST_POSITIONS:
        raise DataError(
            f"the log has {len(positions.outcomes)} events with {artifact.prompt.min_history} or more of the user "
            f"before them; a check needs {LEAST_POSITIONS}"
        )
    judgment = judged(artifact, positions, limits, bootstrap_samples)
    content = {
        "verdict": judgment.verdict,
        "figures": [asdict(figure) for figure in judgment.figures],
        "metrics": judgment.metrics,
        "drift": asdict(judgment.drift),
        "reliability": judgment.bins.to_pylist(),
        "model": plan.model.fingerprint,
        "log": planned.manifest.log,
    }
    storage.write_replacing(plan.folder / REPORT, (json.dumps(content, indent=1) + "\n").encode())
    return Checked(artifact, positions, judgment, planned.manifest.log)


def judged(
    artifact: Artifact, positions: CheckedPositions, limits: Limits, bootstrap_samples: int
) -> Judgment:
    """What the positions say."""
    outcomes, is_anchor = positions.outcomes, artifact.is_anchor
    resampled = resample(outcomes, is_anchor, positions.user, resamples=bootstrap_samples)
    found = drift(
        outcomes.target.astype(np.int64),
        positions.unseen,
        artifact.names,
        artifact.counts,
        is_anchor,
        limits.anchor_threshold,
    )
    return judge(percentile_intervals(resampled), artifact.metrics, found, reliability(outcomes), limits)
