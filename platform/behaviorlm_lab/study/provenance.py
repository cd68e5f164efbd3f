"""What the record of a run was made from and by, and which records may stand in one table."""

from collections.abc import Iterable, Mapping
from typing import Any

from behaviorlm.config import flattened
from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.settings import SEEDED, StudySettings
from behaviorlm_ray.pipeline import (
    conversations,
    evaluate,
    predict,
    prepare,
    reference,
    score,
    select,
    tune,
    validate,
)
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.stages.manifests import package_versions

Record = Mapping[str, Any]

STAGES = (prepare, conversations, reference, tune, score, select, predict, validate, evaluate)
"""The modules that declare stages, each with the version of its code."""

WORLD_KEYS = ("users", "events", "conversations", "pretraining_steps")
"""Keys of a study that say what its logs and bases are like."""

VALUES = "values"
"""Key of a condition: keys of the run that it changes."""

OF_A_CONDITION = (
    "settings.condition.",
    "settings.evaluation.arms",
    "settings.evaluation.truth.",
    "world",
    "base",
)
"""What a condition may have of its own; all else is the same in the whole study."""


def provenance(
    settings: RunSettings, study: StudySettings, condition: str, base: str | None = None
) -> dict[str, Any]:
    """What a record of this run says of its making, as JSON values.

    "settings": every key that decides the result, dotted, but not those that a seed changes; "world": version of the
    world; "base": fingerprint of the base model, left out if it is None; "stages" and "packages": versions of the code.
    """
    truth = settings.evaluation.truth
    found: dict[str, Any] = {
        "settings": _resolved(settings, study, condition),
        "world": None if truth is None else truth.open().version,
        "stages": {module.__name__.rpartition(".")[2]: module.VERSION for module in STAGES},
        "packages": package_versions(),
    }
    return found if base is None else found | {"base": base}


def check_same_making(records: Iterable[tuple[str, Record]]) -> None:
    """Refuse records, (what it is called, record), of which two were not made alike.

    Those of one condition agree in everything that both say of their making, those of different conditions in what a
    condition may not change. Raises ConfigError naming two records and a key.
    """
    first: tuple[str, dict[str, Any]] | None = None
    of_condition: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, record in records:
        if "made" not in record:
            raise ConfigError(
                f"{name} does not say with which settings it was made (`made`): an earlier version wrote it; remove it "
                "and run the study again"
            )
        made = flattened(record["made"])
        first = first or (name, made)
        same = of_condition.setdefault(record["condition"], (name, made))
        _compare(name, made, *same, whole=True)
        _compare(name, made, *first, whole=False)
        if "base" in made:  # a planned run does not know its base before that is made
            same[1].setdefault("base", made["base"])


def _compare(name: str, made: dict[str, Any], other_name: str, other: dict[str, Any], *, whole: bool) -> None:
    """whole: of one condition; else only keys that both have and no condition changes."""
    changed = [
        f"settings.{key}" for of in (made, other) for key in of.get(f"settings.condition.{VALUES}", [])
    ]
    own = (*OF_A_CONDITION, *(f"{key}." for key in changed))
    for key in sorted(made.keys() | other.keys()):
        one, two = made.get(key, "missing"), other.get(key, "missing")
        both = key in made and key in other
        if one == two or (key == "base" and not both):
            continue
        if whole or (both and key not in changed and not key.startswith(own)):
            kind, _, of = key.partition(".")
            told, remedy = key, "remove what is out of date and run it again"
            if kind in ("stages", "packages"):
                told = f"the version of {'the stage ' if kind == 'stages' else ''}{of}"
                remedy = "go on with what began it, or remove its records"
            raise ConfigError(
                f"{name}: {told} is {one!r}, but {two!r} in {other_name}; the records of a study are made alike: "
                f"{remedy}, or give the study another name"
            )


def _resolved(settings: RunSettings, study: StudySettings, condition: str) -> dict[str, Any]:
    """Dotted keys; nothing about where files lie, how widely work runs, or which seed it is."""
    data = settings.model_dump(mode="json")
    for key in ("name", "storage", "execution", "tracking"):
        del data[key]
    del data["events"]["paths"], data["model"]["base"], data["evaluation"]["cloze"]
    for source in data["auxiliary"]:
        del source["paths"]
    if data["evaluation"]["truth"] is not None:
        del data["evaluation"]["truth"]["opaque_seed"]
    data["arms"] = {name: data["arms"][name] for name in data["evaluation"]["arms"] if name in data["arms"]}
    own = study.conditions[condition].model_dump(mode="json", exclude={"seeds", "arms", "values"})
    if study.conditions[condition].values:
        own[VALUES] = sorted(
            study.conditions[condition].values
        )  # what they are stands at the keys themselves
    world = {key: value for key, value in study.model_dump(mode="json").items() if key in WORLD_KEYS}
    found = flattened(data | {"condition": own, "study": world})
    return {key: value for key, value in found.items() if key not in SEEDED}
