"""What is kept of one run of a study: a small JSON file for each condition and seed, from which tables are made."""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.examination import examine_measures, examine_overlaps, examine_selections
from behaviorlm_lab.study.provenance import check_same_making, provenance
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.b_tune import tuned_model
from behaviorlm_ray.pipeline.evaluate import DETAILS, RESULTS, evaluate
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.tune import one_stage, start
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage
from behaviorlm_ray.storage import Location

MEASURED = (
    ("anchor_accuracy", *PRIMARY[0]),
    ("tail_macro_recall", *PRIMARY[1]),
    ("tail_accuracy", "tail", "accuracy"),
    ("accuracy", "all", "accuracy"),
    ("mrr", "all", "mrr"),
    ("calibration_error", "all", "expected_calibration_error"),
)
"""Name in the record, group, metric."""


def record_of(run: Run, runner: Runner, study: StudySettings, condition: str, seed: int) -> dict[str, Any]:
    """Run everything that the record of this condition and seed needs, and put it together."""
    settings = run.settings
    evaluated = runner.run(evaluate(run))
    results = _read(evaluated.folder / RESULTS)
    details = _read(evaluated.folder / DETAILS)
    arms = settings.evaluation.arms
    tunings = {arm: settings.all_arms[arm].tuning for arm in arms}
    record: dict[str, Any] = {
        "study": study.name,
        "condition": condition,
        "seed": seed,
        "fingerprint": evaluated.manifest.fingerprint,
        "made": provenance(settings, study, condition, run.inputs.base),
        "samples": results["samples"],
        "optimizer_samples": {
            arm: optimizer_samples(run.for_arm(arm), tuning, runner) for arm, tuning in tunings.items()
        },
        "scoring_samples": {
            arm: scoring_samples(run.for_arm(arm), tuning, runner) for arm, tuning in tunings.items()
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
        "validation_parts": results["validation"],
        "recalls": recalls(details["per_behavior"]),
        "fronts": details["fronts"],
        "ceiling_front": details["truth"]["frontier"]["endpoint"],
        "retention": {
            arm: {
                source: {key: round(value, 5) for key, value in found.items()}
                for source, found in sources.items()
            }
            for arm, sources in results["retention"].items()
        },
        "difficulty": {},
    }
    selecting = [arm for arm, tuning in tunings.items() if tuning == "ab_tuned"]
    if selecting:
        record["difficulty"]["selections"] = examine_selections(run, runner, selecting)
        record["difficulty"]["overlaps"] = examine_overlaps(run, runner, selecting)
    if condition in study.examine_conditions and study.examine in selecting:
        record["difficulty"]["measures"] = examine_measures(run, runner, selecting, study.examine)
    return record


def recalls(per_behavior: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """{behavior: {"is_anchor", "training_targets", "targets", "recall": {model: value}}}, on the targets as drawn."""
    found: dict[str, Any] = {}
    for model, rows in per_behavior.items():
        for row in rows:
            kept = {key: row[key] for key in ("is_anchor", "training_targets", "targets")}
            found.setdefault(row["behavior"], kept | {"recall": {}})["recall"][model] = row["recall"]
    return found


def optimizer_samples(run: Run, tuning: Tuning, runner: Runner) -> int:
    """Samples that went through the optimizer on the way to a model, those of earlier stages included."""
    stage = tuned_model(run, tuning)
    if stage is None:
        return 0
    before = optimizer_samples(run, run.settings.b_tuning_from, runner) if tuning == "ab_tuned" else 0
    return _samples(runner, stage) + before


def scoring_samples(run: Run, tuning: Tuning, runner: Runner) -> int:
    """Samples that went through the optimizer for models that only judge difficulty: references and models of halves.

    0 where nothing is chosen by difficulty.
    """
    settings = run.settings
    if tuning != "ab_tuned" or settings.selection.within == "random":
        return 0
    judges = [start] if settings.difficulty.source == "cross_fit" else []
    judges += [one_stage] if settings.difficulty.measure == "reducible" else []
    return sum(_samples(runner, tuned(run, half)) for tuned in judges for half in (0, 1))


def record_path(folder: Path, condition: str, seed: int) -> Path:
    """Where the record of a condition and seed lies."""
    return folder / f"{condition}-{seed}.json"


def has_record(folder: Path, condition: str, seed: int) -> bool:
    """Whether there is one of this condition and seed, packed or not."""
    path = record_path(folder, condition, seed)
    return path.exists() or path.with_name(f"{path.name}.gz").exists()


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write it, a line for each of its keys, what was measured to six digits. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, record["condition"], record["seed"])
    lines = [
        f"{json.dumps(key)}: {json.dumps(value if key == 'made' else _rounded(value))}"
        for key, value in record.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records below a folder, by condition and seed.

    Raises ConfigError where there are none, where they are of two studies or were not made alike, or where two are of
    the same condition and seed.
    """
    found = existing_records(folder)
    if not found:
        raise ConfigError(f"{folder} has no records (<condition>-<seed>.json) of a study; run it first")
    studies = sorted({record["study"] for record in found.values()})
    if len(studies) > 1:
        raise ConfigError(
            f"{folder} mixes records of {', '.join(studies)}; keep each study in a folder of its own"
        )
    place_of: dict[tuple[str, int], Path] = {}
    for path, record in found.items():
        key = (record["condition"], record["seed"])
        if key in place_of:
            raise ConfigError(
                f"{place_of[key]} and {path} are both of {key[0]}, seed {key[1]}; keep one of them"
            )
        place_of[key] = path
    check_same_making((str(path), record) for path, record in found.items())
    return sorted(found.values(), key=lambda record: (record["condition"], record["seed"]))


def existing_records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records in a folder by path, packed (.json.gz) or not; none where there is no folder.

    Raises ConfigError naming what is no record. How they were made is not looked at.
    """
    paths = sorted([*folder.glob("*-*.json"), *folder.glob("*-*.json.gz")])
    return {path: _record(path) for path in paths}


def _record(path: Path) -> dict[str, Any]:
    content = storage.read_bytes(path) or b""
    try:
        found = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        if not isinstance(found, dict) or not {"study", "condition", "seed"} <= found.keys():
            raise ValueError("it has no study, condition and seed")
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ConfigError(
            f"{path} is no record of a study: {error}; remove it and run the study again"
        ) from error
    return found


def _rounded(value: Any) -> Any:
    """Floats to six digits after the point, in nested lists and mappings: fronts are hundreds of numbers."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def _samples(runner: Runner, stage: Stage) -> int:
    return runner.run(stage).manifest.rows["samples"]


def _read(place: Location) -> dict[str, Any]:
    return json.loads(storage.read_text(place))
