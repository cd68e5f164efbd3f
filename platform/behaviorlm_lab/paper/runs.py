"""The runs that exhibits need: which, what of them is there, and running the others through the usual pipeline."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behaviorlm.errors import BehaviorLMError, ConfigError, ModelError
from behaviorlm_lab.paper.settings import (
    ExhibitRun,
    PaperSettings,
    exhibits_of,
    run_settings,
)
from behaviorlm_lab.study.cells import DONE
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.connection import connected
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.report.run_files import REPORT_DATA
from behaviorlm_ray.stages.finding import StagePlan
from behaviorlm_ray.stages.run_record import RunRecord, read_asked

SHOWN = 6
"""Of the stages that a run lacks, in words."""


@dataclass(frozen=True)
class NeededRun:
    """A run that exhibits need. base_size: of the base that is made for it; None: it has its own."""

    settings: RunSettings
    base_size: str | None


def paper_folder(paper: PaperSettings) -> Path:
    """<root>/<name>, absolute."""
    return Path(paper.root).expanduser().absolute() / paper.name


def needed_runs(paper: PaperSettings) -> dict[str, NeededRun]:
    """All runs of the exhibits by name, each once, in the order in which exhibits ask for them.

    Raises ConfigError with the problems of all, and where two exhibits mean different runs by one name.
    """
    found: dict[str, NeededRun] = {}
    problems: list[str] = []
    for exhibit_name, exhibit in exhibits_of(paper).items():
        for name, run in exhibit.runs.items():
            try:
                settings = with_absolute_paths(run_settings(paper, exhibit, name, _files(paper, run)))
            except ConfigError as error:
                problems.append(f"{exhibit_name}: {error}")
                continue
            needed = NeededRun(settings, run.base_size)
            if found.setdefault(name, needed) != needed:
                problems.append(
                    f"{exhibit_name}: its run {name} is not that of an exhibit before it: give it another name, or the "
                    "same keys and arms"
                )
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def states(paper: PaperSettings) -> dict[str, str]:
    """What would have to run of each, in words, "" for a finished one; nothing is made.

    Raises ConfigError as `needed_runs` does.
    """
    return {name: _state(paper, needed) for name, needed in needed_runs(paper).items()}


def run_all(paper: PaperSettings) -> dict[str, str]:
    """Run what is not finished, one run after another, and say so; one that fails leaves the others alone.

    Returns what is still missing, and why. Raises ConfigError as `needed_runs` does.
    """
    found: dict[str, str] = {}
    wanted = needed_runs(paper)
    failed: dict[str | None, BehaviorLMError] = {}  # bases, by size, which take minutes each
    with ExitStack() as ray:
        is_connected = False
        for number, (name, needed) in enumerate(wanted.items(), 1):
            try:
                if needed.base_size in failed:
                    raise failed[needed.base_size]
                try:
                    _make_files(paper, needed)
                except ModelError as error:
                    failed[needed.base_size] = error
                    raise
                found[name] = _state(paper, needed)
                if not found[name]:
                    continue
                print(f"run {number} of {len(wanted)}, {name}: {found[name]}", flush=True)
                run = open_run(needed.settings)
                check_inputs(run, is_written=True)
                if not is_connected:
                    ray.enter_context(connected())
                    is_connected = True
                write_results(run, run.runner(RunRecord(run.output_folder)))
                found[name] = ""
            except BehaviorLMError as error:
                print(f"run {name} failed: {error}", flush=True)
                found[name] = f"it failed: {error}"
    return found


def _state(paper: PaperSettings, needed: NeededRun) -> str:
    """Of one run. What is wrong with its inputs is told, too."""
    to_make = files_to_make(paper, needed)
    if to_make:
        return f"to be made first: {', '.join(to_make.values())}"
    run = open_run(needed.settings)
    try:
        check_inputs(run, is_written=False)
        plans = [plan for _, plan in run.runner().plan(evaluate(run))]
    except BehaviorLMError as error:
        return f"it cannot run: {error}"
    missing = [plan.name for plan in plans if plan.output is None]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        return f"{len(missing)} of {len(plans)} stages to run: {', '.join(missing[:SHOWN])}{more}"
    return "" if _has_results(run, plans) else "its results are to be written"


def _has_results(run: Run, plans: list[StagePlan]) -> bool:
    """Whether the folder of the run holds what came of its finished stages as they are now."""
    reached = {plan.output.folder.parents[1].name for plan in plans if plan.output is not None}
    written = storage.read_bytes(run.output_folder / REPORT_DATA) is not None
    return written and set(read_asked(run.output_folder).finished) == reached


def _files(paper: PaperSettings, run: ExhibitRun) -> dict[str, Any]:
    """Dotted keys that name the made log, its texts and a made base."""
    found: Mapping[str, Any] = {}
    if paper.world is not None:
        world = _world_folder(paper)
        found = {
            "events.paths": [str(world / "log" / "*.jsonl.gz")],
            "auxiliary.0.paths": [str(world / "everyday.jsonl.gz")],
            "auxiliary.1.paths": [str(world / "school.jsonl.gz")],
            "evaluation.cloze": str(world / "cloze.jsonl"),
        }
    own = {} if run.base_size is None else {"model.base": str(_base_folder(paper, run.base_size))}
    return {**found, **own}


def files_to_make(paper: PaperSettings, needed: NeededRun) -> dict[str, str]:
    """Which of "log" and "base" are to be made for a run, in words."""
    found = {}
    if paper.world is not None and not (_world_folder(paper) / DONE).exists():
        found["log"] = f"the log of {paper.world.users} users"
    if needed.base_size is not None and not _base_folder(paper, needed.base_size).exists():
        found["base"] = f"the {needed.base_size} base, in {paper.pretraining_steps} steps"
    return found


def _make_files(paper: PaperSettings, needed: NeededRun) -> None:
    """Make log and base, where they are not there yet. Raises ModelError and StorageError."""
    to_make = files_to_make(paper, needed)
    if not to_make:
        return
    from behaviorlm_lab.pretraining.base_model import make_base_model
    from behaviorlm_lab.world.parallel_log import write_world

    print(f"making {' and '.join(to_make.values())}", flush=True)
    if "log" in to_make and paper.world is not None:
        of, folder = paper.world, _world_folder(paper)
        write_world(
            folder, default_world(), of.users, of.seed, of.events, (1000, of.conversations, 1.0), None
        )
        (folder / DONE).touch()
    if "base" in to_make and needed.base_size is not None:
        base = _base_folder(paper, needed.base_size)
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base_model(base, 0, paper.pretraining_steps, 1.0, default_world(), needed.base_size)


def _world_folder(paper: PaperSettings) -> Path:
    assert paper.world is not None
    of = paper.world
    return (
        paper_folder(paper)
        / "worlds"
        / f"{of.users}x{of.events[0]}-{of.events[1]}-{of.conversations}-{of.seed}"
    )


def _base_folder(paper: PaperSettings, size: str) -> Path:
    return paper_folder(paper) / "bases" / f"{size}-{paper.pretraining_steps}"
