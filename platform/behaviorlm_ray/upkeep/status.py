"""What the command status prints: each run below a root with the stage that it is at, then each stage."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from behaviorlm_ray import storage
from behaviorlm_ray.console.tables import age_text, table_lines
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.upkeep.stage_states import StageStatus, State, stages_under

HEADER = ("stage", "state", "progress", "age", "owner or error", "look in")


@dataclass(frozen=True)
class RunStatus:
    """One run.

    last: the stage that it asked for last, None if that is gone; finished: the last stage of what it finished before,
    if a later command asked for another; results: where its results are, if it has handed them over, else "".
    """

    name: str
    last: StageStatus | None
    finished: StageStatus | None
    results: str


def runs_under(root: str, stages: Iterable[StageStatus]) -> list[RunStatus]:
    """All runs below a root that have asked for a stage or have results."""
    base = storage.location(root)
    by_folder = {one.folder: one for one in stages}
    found = []
    for name in storage.list_folders(base):
        asked = read_asked(base / name)
        has_results = storage.read_bytes(base / name / "results.json") is not None
        if asked.stages or has_results:
            last, finished = (
                by_folder.get(names[-1]) if names else None for names in (asked.stages, asked.finished)
            )
            results = str(base / name) if has_results else ""
            found.append(RunStatus(name, last, None if finished == last else finished, results))
    return found


def status_lines(root: str, now: float | None = None) -> list[str]:
    """The table for people."""
    now = time.time() if now is None else now
    stages = stages_under(root, now)
    if not stages:
        return [f"{root}: no stages; is it the storage.root of a run?"]
    lines = table_lines([HEADER, *(_row(one, now) for one in stages)])
    runs = runs_under(root, stages)
    if runs:
        rows: list[tuple[str, ...]] = [("run", "stage now", *HEADER[1:])]
        for run in runs:
            rows.append((run.name, *(_row(run.last, now) if run.last else ("",) * len(HEADER))))
            if run.finished:
                rows.append((f"{run.name}, before", *_row(run.finished, now)))
        lines = [*table_lines(rows), "", *lines]
    results = [run.results for run in runs if run.results]
    lines += ["", *(f"results of a finished run: {folder}" for folder in results)] if results else []
    counts = {state: sum(one.state == state for one in stages) for state in get_args(State)}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, "", f"{len(stages)} stages: {summary}"]


def _row(one: StageStatus, now: float) -> tuple[str, ...]:
    return one.stage, one.state, one.progress, age_text(one.changed, now), one.owner or one.error, one.look
