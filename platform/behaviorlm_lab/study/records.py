"""What is kept of one cell of a study: a small JSON file, from which tables are made."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from behaviorlm.errors import ConfigError
from behaviorlm.scoring.model_names import model_name, split_model_name
from behaviorlm_lab.study.cells import Cell
from behaviorlm_lab.study.measuring import Endpoint, choices_of, truth_of
from behaviorlm_lab.study.order_free import order_free
from behaviorlm_lab.study.provenance import check_same_making, provenance
from behaviorlm_lab.study.roles import REFERENCE, USER_AND_CLOCK, Candidate, roles
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_lab.world.generator import Floats
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.evaluate import DETAILS, RESULTS, evaluate
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.report.provenance import rounded
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.storage import Location

Record = dict[str, Any]
Spread = tuple[Endpoint, Floats]

KEYS = {"study", "k", "knowledge", "seed", "made", "models", "roles"}


def record_of(run: Run, runner: Runner, study: StudySettings, cell: Cell) -> Record:
    """Run all that a cell needs, and measure its predictions.

    "models": of every predictor under every rule its endpoint, what validation says of it, and how far `both` is ahead
    of the reference's (value, and a 95 % interval over users). "roles": who stands for each side of the contrasts, with
    `both` in each resample of users, the same resamples for all.
    """
    settings = run.settings
    evaluated, prepared = runner.run(evaluate(run)), runner.run(prepare(run))
    results, details = (_read(evaluated.folder / name) for name in (RESULTS, DETAILS))
    truth = truth_of(prepared, settings, cell.seed)
    chosen, objectives = choices_of(prepared, evaluated, settings), details["validation"]
    if study.order == "shuffled":
        log = open_log(prepared, settings)
        for rule, (objective, choices) in order_free(log, settings).items():
            chosen[model_name(USER_AND_CLOCK, rule)] = choices
            objectives.setdefault(USER_AND_CLOCK, {})[rule] = objective
    measured = {name: truth.spread(choices) for name, choices in chosen.items()}
    candidates = [
        Candidate(name, *split_model_name(name), objectives[split_model_name(name).predictor])
        for name in measured
    ]
    of_roles = roles(candidates, list(study.arms))
    reference = USER_AND_CLOCK if USER_AND_CLOCK in of_roles else REFERENCE
    return {
        "study": study.name,
        "k": cell.k,
        "knowledge": cell.knowledge,
        "seed": cell.seed,
        "made": provenance(settings, study, run.inputs.base),
        "samples": results["samples"] | {"few_shot": results.get("few_shot")},
        "best": _parts(truth.best),
        "recommended": results["recommended"]["model"],
        "reference": reference,
        "models": {
            one.name: {
                **_parts(measured[one.name][0]),
                "validation": one.objective,
                "ahead": _ahead(measured[one.name], measured[of_roles[reference]]),
            }
            for one in candidates
        },
        "mixtures": details["mixtures"],
        "roles": {
            role: {"model": name, "both": measured[name][0].both, "resamples": measured[name][1].tolist()}
            for role, name in of_roles.items()
        },
    }


def _ahead(measured: Spread, reference: Spread) -> list[float]:
    low, high = np.quantile(measured[1] - reference[1], (0.025, 0.975))
    return [measured[0].both - reference[0].both, float(low), float(high)]


def _parts(endpoint: Endpoint) -> dict[str, float]:
    return {"anchor": endpoint.anchor, "tail": endpoint.tail, "both": endpoint.both}


def record_path(folder: Path, cell: Cell) -> Path:
    """Where the record of a cell lies."""
    return folder / f"{cell.name}.json"


def write_record(folder: Path, cell: Cell, record: Record) -> Path:
    """Write it, a line for each of its keys, what was measured to five digits. Returns its path."""
    path = record_path(folder, cell)
    lines = [
        f"{json.dumps(key)}: {json.dumps(value if key == 'made' else rounded(value))}"
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


def _read(place: Location) -> Any:
    return json.loads(storage.read_text(place))
