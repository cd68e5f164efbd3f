"""What is kept of one run of a study: a small JSON file for each condition and seed, from which tables are made."""

import json
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation import PRIMARY
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.stages import StageOutput
from behaviorlm_ray.storage import Location
from behaviorlm_ray.study.examination import examine
from behaviorlm_ray.study.provenance import check_same_making, provenance
from behaviorlm_ray.study.settings import StudySettings

MEASURED = (
    ("anchor_accuracy", *PRIMARY[0]),
    ("tail_macro_recall", *PRIMARY[1]),
    ("tail_accuracy", "tail", "accuracy"),
    ("accuracy", "all", "accuracy"),
)
"""Name in the record, group, metric."""


def record_of(pipeline: Pipeline, study: StudySettings, condition: str, seed: int) -> dict[str, Any]:
    """Run everything that the record of this condition and seed needs, and put it together."""
    evaluated = pipeline.evaluated()
    assert isinstance(evaluated, StageOutput)
    results = _read(evaluated.folder / "results.json")
    details = _read(evaluated.folder / "details.json")
    record = {
        "study": study.name,
        "condition": condition,
        "seed": seed,
        "fingerprint": evaluated.manifest.fingerprint,
        "made": provenance(pipeline.settings, study, condition, pipeline.input_hashes["base"]),
        "samples": results["samples"],
        "optimizer_samples": {
            arm: optimizer_samples(pipeline.variant(arm), pipeline.settings.all_arms[arm].tuning)
            for arm in pipeline.settings.evaluation.arms
        },
        "ceiling": results["ceiling"],
        "bound_of_tail_macro_recall": details["truth"]["tail_macro_recall"],
        "models": {
            name: {key: groups[group][metric] for key, group, metric in MEASURED}
            | {"expected": details["truth"]["models"][name]}
            for name, groups in results["models"].items()
        },
        "tau": details["tau"],
        "validation": details["validation"],
        "fronts": {name: front["area"] for name, front in details["fronts"].items()},
        "retention": {
            arm: {
                source: {key: round(value, 5) for key, value in found.items()}
                for source, found in sources.items()
            }
            for arm, sources in results["retention"].items()
        },
        "difficulty": {},
    }
    if condition in study.examine_conditions:
        compared = [arm for arm in study.examine if arm in pipeline.settings.evaluation.arms]
        record["difficulty"] = {arm: examine(pipeline.variant(arm)) for arm in compared}
    return record


def optimizer_samples(pipeline: Pipeline, tuning: str) -> int:
    """Samples that went through the optimizer on the way to a model, those of earlier stages included."""
    if tuning == "untuned":
        return 0
    if tuning == "ab_tuned":
        start = pipeline.settings.b_tuning_from
        return _samples(pipeline.ab_tuned()) + optimizer_samples(pipeline, start)
    return _samples(pipeline.model(tuning)[0])  # type: ignore[arg-type]


def record_path(folder: Path, condition: str, seed: int) -> Path:
    """Where the record of a condition and seed lies."""
    return folder / f"{condition}-{seed}.json"


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write it. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, record["condition"], record["seed"])
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records below a folder, by condition and seed.

    Raises ConfigError where there are none, or where they are of two studies or were not made alike.
    """
    found = existing_records(folder)
    if not found:
        raise ConfigError(f"{folder} has no records (<condition>-<seed>.json) of a study; run it first")
    studies = sorted({record["study"] for record in found.values()})
    if len(studies) > 1:
        raise ConfigError(
            f"{folder} mixes records of {', '.join(studies)}; keep each study in a folder of its own"
        )
    check_same_making((str(path), record) for path, record in found.items())
    return sorted(found.values(), key=lambda record: (record["condition"], record["seed"]))


def existing_records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records below a folder by path, not checked; none where there is no folder."""
    return {path: _read(path) for path in sorted(folder.glob("*-*.json"))}


def _samples(stage: Any) -> int:
    return int(stage.manifest.rows["samples"])


def _read(place: Location) -> dict[str, Any]:
    return json.loads(storage.read_text(place))
