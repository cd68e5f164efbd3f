"""What the record of a cell was made from and by, and which records may stand in one table."""

from collections.abc import Iterable, Mapping
from typing import Any

from behaviorlm.config import flattened
from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.settings import SEEDED, StudySettings
from behaviorlm_ray.pipeline import conversations, evaluate, predict, prepare, reference, score, select, tune
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.provenance import PLACES
from behaviorlm_ray.stages.manifests import package_versions

Record = Mapping[str, Any]

STAGES = (prepare, conversations, reference, tune, score, select, predict, evaluate)
"""The modules that declare stages, each with the version of its code."""

WORLD_KEYS = ("order", "users", "events", "conversations", "pretraining_steps")
"""Keys of a study that say what its logs and bases are like."""


def provenance(settings: RunSettings, study: StudySettings, base: str | None = None) -> dict[str, Any]:
    """What a record of this run says of its making, as JSON values.

    "settings": every key that decides the result, dotted, but not those that a seed changes; "study": what its logs and
    bases are like; "base": fingerprint of the base model, left out if it is None; "stages" and "packages": versions of
    the code.
    """
    truth = settings.evaluation.truth
    world = {key: value for key, value in study.model_dump(mode="json").items() if key in WORLD_KEYS}
    found: dict[str, Any] = {
        "study": world | {"world": None if truth is None else truth.open().version},
        "stages": stage_versions(),
        "packages": package_versions(),
        "settings": _resolved(settings),
    }
    return found if base is None else found | {"base": base}


def stage_versions() -> dict[str, int]:
    """Versions of the code of every kind of stage, today."""
    return {module.__name__.rpartition(".")[2]: module.VERSION for module in STAGES}


def changed_since(records: Iterable[Record]) -> list[str]:
    """Stages whose version was another when one of the records ("made") was made: `score 2, today 3`."""
    today = stage_versions()
    made = {(name, version) for record in records for name, version in record.get("stages", {}).items()}
    return [
        f"{name} {version}, today {today.get(name, 'none')}"
        for name, version in sorted(made)
        if today.get(name) != version
    ]


def check_same_making(records: Iterable[tuple[str, str, Record]]) -> None:
    """Refuse records, (what it is called, its kind, "made"), of which two were not made alike.

    Those of one kind agree in everything that both say of their making, those of different kinds in all but the run's
    settings and the base. Raises ConfigError naming two records and a key.
    """
    of_kind: dict[str, tuple[str, dict[str, Any]]] = {}
    first: tuple[str, dict[str, Any]] | None = None
    for name, kind, record in records:
        made = flattened(record)
        first = first or (name, made)
        _compare(name, made, *of_kind.setdefault(kind, (name, made)))
        shared = {key: value for key, value in made.items() if not key.startswith(("settings.", "base"))}
        _compare(name, shared, *first)


def _compare(name: str, made: dict[str, Any], other_name: str, other: dict[str, Any]) -> None:
    for key in made:
        if key in other and made[key] != other[key]:
            raise ConfigError(
                f"{name}: {key} is {made[key]!r}, but {other[key]!r} in {other_name}; the records of a study are made "
                "alike: remove what is out of date and run it again, or give records another folder"
            )


def _resolved(settings: RunSettings) -> dict[str, Any]:
    """Dotted keys; nothing about where files lie, how widely work runs, or which seed it is."""
    data = settings.model_dump(mode="json")
    for key in PLACES:
        del data[key]
    del data["events"]["paths"], data["model"]["base"], data["evaluation"]["cloze"]
    for source in data["auxiliary"]:
        del source["paths"]
    return {key: value for key, value in flattened(data).items() if key not in SEEDED}
