"""What a condition of a study needs before it runs: the log of its world and seed, and its base, each made once."""

from pathlib import Path
from typing import Any

from behaviorlm_lab.pretraining.base_model import make_base_model
from behaviorlm_lab.study.settings import Condition, StudySettings
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.parallel_log import write_world
from behaviorlm_lab.world.process import default_world

DONE = "complete"
"""An empty file that is written last."""


def study_files(study: StudySettings, folder: Path, condition: Condition, seed: int) -> dict[str, Any]:
    """Dotted keys of a run that name the log, the small talk, the cloze questions and the base; no file is made."""
    world = _world_folder(study, folder, condition, seed)
    values: dict[str, Any] = {
        "events.paths": [str(world / "log" / "*.jsonl.gz")],
        "auxiliary.0.paths": [str(world / "everyday.jsonl.gz")],
        "auxiliary.1.paths": [str(world / "school.jsonl.gz")],
        "evaluation.cloze": str(world / "cloze.jsonl"),
    }
    if condition.base != "shipped":
        values["model.base"] = str(_base_folder(study, folder, condition))
    return values


def make_files(study: StudySettings, folder: Path, condition: Condition, seed: int) -> None:
    """Make what `study_files` names, where it is not there yet. Raises ConfigError and StorageError.

    A base is of seed 0, whatever the seed of the log.
    """
    world = _world_folder(study, folder, condition, seed)
    generator = _generator(condition)
    if not (world / DONE).exists():
        text = (1000, study.conversations, 1.0)
        codes = seed if condition.opaque else None
        events = write_world(world, generator, study.users, seed, study.events, text, codes)
        (world / DONE).touch()
        print(f"wrote {events} synthetic events to {world}", flush=True)
    base = _base_folder(study, folder, condition)
    if condition.base != "shipped" and not base.exists():
        steps = 0 if condition.base == "random" else study.pretraining_steps
        print(f"making the base model {base} in {steps} steps", flush=True)
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base_model(base, 0, steps, condition.knowledge, generator, condition.size)


def _generator(condition: Condition) -> Generator:
    return default_world() if condition.generator == "main" else errands_world()


def _world_folder(study: StudySettings, folder: Path, condition: Condition, seed: int) -> Path:
    shown = "-opaque" if condition.opaque else ""
    size = f"{study.users}x{study.events[0]}-{study.events[1]}-{study.conversations}"
    return folder / "worlds" / f"{condition.generator}{shown}-{size}-{seed}"


def _base_folder(study: StudySettings, folder: Path, condition: Condition) -> Path:
    name = f"{condition.generator}-{condition.size}"
    if condition.base == "random":
        return folder / "bases" / f"{name}-random"
    return folder / "bases" / f"{name}-knowledge-{condition.knowledge:g}-{study.pretraining_steps}"
