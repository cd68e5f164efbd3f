"""What a run left under its root, and how it differs from that of the undisturbed run."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from behaviorlm_ray import storage

TOLERANCE = 1e-3
"""Largest difference of a metric that counts as equal: other numbers of workers add up in another order."""


@dataclass(frozen=True)
class Outcome:
    """Samples as often as they were used, by stage ("a_tune", "b_tune", "score"), and the metrics by their path."""

    samples: Mapping[str, Counter[str]]
    metrics: Mapping[str, float]


def read_outcome(root: str, name: str) -> Outcome:
    """Of a finished run."""
    place = storage.location(root)
    samples: dict[str, Counter[str]] = {}
    for path in storage.list_files(place / "stages"):
        folder, _, rest = path.partition("/")
        stage = folder.rpartition("-")[0]
        if rest != "manifest.json" or stage not in ("a_tune", "b_tune", "score"):
            continue
        attempt = json.loads(_read(place / "stages" / path))["attempt"]
        output = place / "stages" / folder / "attempts" / attempt
        if stage == "score":
            table = pq.read_table(io.BytesIO(_read(output / "difficulty.parquet")))
            samples[stage] = Counter(value.hex() for value in table["sample_id"].to_pylist())
        else:
            lines = [json.loads(line) for line in _read(output / "lineage.jsonl").splitlines()]
            samples[stage] = Counter(sample for line in lines for sample in line["sample_ids"])
    results = json.loads(_read(place / name / "results.json"))
    return Outcome(samples, dict(_numbers("", results["models"])))


def difference(found: Outcome, expected: Outcome) -> dict[str, Any]:
    """How many samples are missing and repeated over all stages, and whether the metrics are equal."""
    missing = repeated = 0
    for stage, samples in expected.samples.items():
        of_stage = found.samples.get(stage, Counter())
        missing += (samples - of_stage).total()
        repeated += (of_stage - samples).total()
    equal = found.metrics.keys() == expected.metrics.keys() and all(
        abs(value - expected.metrics[path]) <= TOLERANCE for path, value in found.metrics.items()
    )
    return {"samples_missing": missing, "samples_repeated": repeated, "metrics_equal": equal}


def _numbers(path: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [pair for key, below in value.items() for pair in _numbers(f"{path}/{key}", below)]
    return [(path, float(value))] if isinstance(value, int | float) else []


def _read(place: storage.Location) -> bytes:
    content = storage.read_bytes(place)
    if content is None:
        raise FileNotFoundError(str(place))
    return content
