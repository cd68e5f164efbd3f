"""The cells of a study, and what each needs before it runs: the log of its seed, and its base, each made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behaviorlm_lab.pretraining.base_model import make_base_model
from behaviorlm_lab.study.settings import StudySettings, study_run
from behaviorlm_lab.study.shuffled_log import write_shuffled
from behaviorlm_lab.world.parallel_log import write_world
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths

DONE = "complete"
"""An empty file that is written last."""


@dataclass(frozen=True)
class Cell:
    """One run of a study. k: the name of its shots."""

    k: str
    knowledge: float
    seed: int

    @property
    def kind(self) -> str:
        """What cells that differ by seed alone have in common."""
        return f"k{self.k}-knowledge{self.knowledge:g}"

    @property
    def name(self) -> str:
        """Names its record."""
        return f"{self.kind}-{self.seed}"


def planned_cells(study: StudySettings) -> list[Cell]:
    """Shots by shots, in these dose by dose, in these seed by seed."""
    return [
        Cell(k, knowledge, seed) for k in study.k for knowledge in study.knowledge for seed in study.seeds
    ]


def study_folder(study: StudySettings) -> Path:
    """<root>/<name>, absolute."""
    return Path(study.root).expanduser().absolute() / study.name


def records_folder(study: StudySettings) -> Path:
    """Where the records of the cells lie, absolute."""
    return study_folder(study) / "records" if study.records is None else Path(study.records).absolute()


def cell_settings(study: StudySettings, cell: Cell) -> RunSettings:
    """The run of a cell; no file is made. Raises ConfigError with every problem."""
    world = _world_folder(study, cell)
    values: dict[str, Any] = {
        "storage.root": study.root,
        "events.paths": [str(world / "log" / "*.jsonl.gz")],
        "auxiliary.0.paths": [str(world / "everyday.jsonl.gz")],
        "auxiliary.1.paths": [str(world / "school.jsonl.gz")],
        "evaluation.cloze": str(world / "cloze.jsonl"),
    }
    if study.order == "shuffled":
        values["evaluation.truth"] = None
    if cell.knowledge < 1:
        values["model.base"] = str(_base_folder(study, cell))
    return with_absolute_paths(study_run(study, cell.name, cell.k, cell.seed, values))


def make_files(study: StudySettings, cell: Cell) -> None:
    """Make the files of a cell that are not there yet. Raises ConfigError and StorageError.

    A base is of seed 0, whatever the seed of the log.
    """
    folder, world = _world_folder(study, cell), default_world()
    if not (folder / DONE).exists():
        text = (1000, study.conversations, 1.0)
        events = write_world(folder, world, study.users, cell.seed, study.events, text, None)
        if study.order == "shuffled":
            write_shuffled(folder / "log", cell.seed)
        (folder / DONE).touch()
        print(f"wrote {events} synthetic events to {folder}", flush=True)
    base = _base_folder(study, cell)
    if cell.knowledge < 1 and not base.exists():
        print(f"making the base model {base} in {study.pretraining_steps} steps", flush=True)
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base_model(base, 0, study.pretraining_steps, cell.knowledge, world)


def _world_folder(study: StudySettings, cell: Cell) -> Path:
    size = f"{study.users}x{study.events[0]}-{study.events[1]}-{study.conversations}"
    return study_folder(study) / "worlds" / f"{study.order}-{size}-{cell.seed}"


def _base_folder(study: StudySettings, cell: Cell) -> Path:
    return study_folder(study) / "bases" / f"knowledge-{cell.knowledge:g}-{study.pretraining_steps}"
