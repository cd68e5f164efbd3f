"""What is kept of one cell of a study: a small JSON file, from which tables are made."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from behaviorlm.errors import ConfigError
from behaviorlm.scoring.model_names import split_model_name
from behaviorlm_lab.study.cells import Cell
from behaviorlm_lab.study.measuring import Truth, choices_of, truth_of
from behaviorlm_lab.study.provenance import check_same_making, provenance
from behaviorlm_lab.study.roles import REFERENCE, Candidate, roles
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_lab.world.generator import Floats
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.evaluate import DETAILS, RESULTS, evaluate
from behaviorlm_ray.pipeline.prepare import prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.storage import Location

Record = dict[str, Any]

KEYS = {"study", "k", "knowledge", "seed", "made", "models", "roles"}


def record_of(run: Run, runner: Runner, study: StudySettings, cell: Cell) -> Record:
    """Run all that a cell needs, and measure its predictions.

    "models": of every predictor under every rule its endpoint, what validation says of it, and how far `both` is ahead
    of the reference's (value, and a 95 % interval over users). "roles": who stands for each side of the contrasts, with
    `both` in each resample of users, the same resamples for all.
    """
    settings = run.settings
    evaluated = runner.run(evaluate(run))
    results, details = (_read(evaluated.folder / name) for name in (RESULTS, DETAILS))
    prepared = runner.run(prepare(run))
    truth = truth_of(prepared, settings, cell.seed)
    chosen = choices_of(prepared, evaluated, settings)
    measured = {name: truth.spread(choices) for name, choices in chosen.items()}
    candidates = [
        Candidate(name, *split_model_name(name), details["validation"][split_model_name(name).predictor])
        for name in measured
    ]
    of_roles = roles(candidates, list(study.arms))
    _, of_reference = measured[of_roles[REFERENCE]]
    reference = measured[of_roles[REFERENCE]][0].both
    return {
        "study": study.name,
        "k": cell.k,
        "knowledge": cell.knowledge,
        "seed": cell.seed,
        "made": provenance(settings, study, run.inputs.base),
        "samples": results["samples"] | {"few_shot": results.get("few_shot")},
        "best": _numbers(truth),
        "recommended": results["recommended"]["model"],
        "models": {
            one.name: {
                "anchor": measured[one.name][0].anchor,
                "tail": measured[one.name][0].tail,
                "both": measured[one.name][0].both,
                "validation": one.objective,
                "ahead": _ahead(measured[one.name], reference, of_reference),
            }
            for one in candidates
        },
        "mixtures": details["mixtures"],
        "roles": {
            role: {"model": name, "both": measured[name][0].both, "resamples": measured[name][1].tolist()}
            for role, name in of_roles.items()
        },
    }


def _ahead(measured: Any, reference: float, of_reference: Floats) -> list[float]:
    endpoint, resamples = measured
    low, high = np.quantile(resamples - of_reference, (0.025, 0.975))
    return [endpoint.both - reference, float(low), float(high)]


def _numbers(truth: Truth) -> dict[str, float]:
    best = truth.best
    return {"anchor": best.anchor, "tail": best.tail, "both": best.both}


def record_path(folder: Path, cell: Cell) -> Path:
    """Where the record of a cell lies."""
    return folder / f"{cell.name}.json"


def write_record(folder: Path, cell: Cell, record: Record) -> Path:
    """Write it, a line for each of its keys, what was measured to five digits. Returns its path."""
    path = record_path(folder, cell)
    lines = [
        f"{json.dumps(key)}: {json.dumps(value if key == 'made' else _rounded(value))}"
        for key, value in record.items()
    ]
    storage.write_replacing(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return path


def read_records(folder: Path) -> list[Record]:
    """All records in a folder, by shots, knowledge and seed.

    Raises ConfigError where there are none, where one is no record, and where two were not made alike.
    """
    found = existing_records(folder)
    if not found:
        raise ConfigError(f"{folder} has no records of a study; run it first")
    check_same_making(making(found))
    return sorted(found.values(), key=lambda of: (_few(of["k"]), -of["knowledge"], of["seed"]))


def making(records: Mapping[Path, Record]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """What `check_same_making` takes."""
    return [(str(path), kind_of(record), record["made"]) for path, record in records.items()]


def kind_of(record: Mapping[str, Any]) -> str:
    """What it has in common with those of other seeds."""
    return Cell(record["k"], record["knowledge"], record["seed"]).kind


def existing_records(folder: Path) -> dict[Path, Record]:
    """The records in a folder by path. Raises ConfigError naming what is no record."""
    return {path: _record(path) for path in sorted(folder.glob("k*-*.json"))}


def _record(path: Path) -> Record:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not found.keys() >= KEYS:
            raise ValueError(f"it lacks some of {', '.join(sorted(KEYS))}")
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{path} is no record of a study: {error}; remove it and run the study again"
        ) from error
    return found


def _few(k: str) -> float:
    return float(k) if k.isdigit() else np.inf


def _rounded(value: Any) -> Any:
    """Floats to five digits after the point, in nested lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def _read(place: Location) -> Any:
    return json.loads(storage.read_text(place))
