"""What of a finished stage becomes metrics: seconds and counts, curves by step, and results by predictor and group.

All follows from the stage's output, times included: told twice, it is the same.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.evaluate import RESULTS
from behaviorlm_ray.report.tensorboard import scalars
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import MAIN_COUNTS, Manifest
from behaviorlm_ray.tuning.worker import CURVE

GROUPS = ("all", "anchor", "tail")
METRICS = (
    "accuracy",
    "mrr",
    "recall_at_5",
    "macro_recall_at_least_10",
    "expected_calibration_error",
)
"""Of the results; with all of them a run would have thousands of metrics. results.json has the rest."""


@dataclass(frozen=True)
class Point:
    """One value of a metric. milliseconds: when it was measured, since 1970."""

    key: str
    value: float
    step: int
    milliseconds: int


def points_of(label: str, output: StageOutput) -> list[Point]:
    """All of a stage's, with keys that MLflow takes, no (key, step) twice."""
    manifest, stage = output.manifest, key_of(label)
    begun = datetime.fromisoformat(manifest.started).timestamp()
    ended = round((begun + manifest.duration_seconds) * 1000)
    values = [(f"stage/{name}/{stage}", value) for name, value in _amounts(manifest)]
    if RESULTS in manifest.files:
        values += result_values(json.loads(storage.read_text(output.folder / RESULTS)))
    found = [
        Point(key, value, 0, ended) for key, value in values if value is not None and math.isfinite(value)
    ]
    if CURVE in manifest.files:
        lines = storage.read_text(output.folder / CURVE).splitlines()
        found += curve_points(f"curve/{stage}", [json.loads(line) for line in lines], begun)
    return found


def curve_points(prefix: str, lines: list[Mapping[str, Any]], begun: float) -> Iterator[Point]:
    """Of the lines of a loss curve; each at the time that the steps up to it took. begun: seconds since 1970."""
    passed = begun
    for line in lines:
        passed += line["seconds"]
        for name, value in scalars(line).items():
            if math.isfinite(value):
                yield Point(
                    f"{prefix}/{key_of(name).replace('/', '_')}",
                    value,
                    line["step"] + 1,
                    round(passed * 1000),
                )


def result_values(results: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """`test/<predictor>/<group>/<metric>`, with `_low` and `_high` its interval, and `validation/<model>/<metric>`."""
    for predictor, groups in results["models"].items():
        for group in GROUPS:
            for metric in METRICS:
                measured = groups.get(group, {}).get(metric)
                if measured is None:
                    continue
                key = f"test/{key_of(predictor)}/{group}/{metric}"
                yield key, measured["value"]
                yield f"{key}_low", measured["low"]
                yield f"{key}_high", measured["high"]
    for model, values in results["validation"].items():
        for name, value in values.items():
            if isinstance(value, int | float):
                yield f"validation/{key_of(model)}/{key_of(name)}", value


def key_of(label: str) -> str:
    """A label of ours as part of a key: `b_tune (ab_random)` as `b_tune_ab_random`, `x+adjusted` as `x.adjusted`."""
    return re.sub(r"[^\w./-]", "", label.replace(" ", "_").replace("+", "."), flags=re.ASCII)


def _amounts(manifest: Manifest) -> Iterator[tuple[str, float | None]]:
    yield "seconds", manifest.duration_seconds
    rows = {name: number for name, number in manifest.rows.items() if name in MAIN_COUNTS}
    for name, value in (rows | manifest.cost).items():
        yield key_of(name), value
