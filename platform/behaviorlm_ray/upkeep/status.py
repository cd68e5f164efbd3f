"""What is under a root: runs and stages with state, progress and age, owner or last error, where to look.

Reads only what stages leave behind (manifests, leases, errors, progress), so it needs neither Ray nor the job.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.lease import LeaseRecord, decode_record, machine_identity, process_start
from behaviorlm_ray.stages.manifests import decode_manifest
from behaviorlm_ray.stages.run_record import read_stages
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.step_folders import step_of

PROGRESS_FILE = "progress.json"
"""Where a stage that takes long says how far it is, beside its checkpoints."""

TOLD_ROWS = ("samples", "selected", "events", "rows")
"""Of a finished stage the first of these counts that it has is shown, else any."""

LIST_TRIES = 5
"""Files come and go while a running stage is listed (our choice)."""

State = Literal["running", "failed", "interrupted", "finished", "damaged"]


@dataclass(frozen=True)
class StageStatus:
    """One stage. `changed`: seconds since the epoch of its last sign of life; None where it left none."""

    folder: str
    stage: str
    state: State
    progress: str
    changed: float | None
    owner: str
    error: str
    look: str


def stages_under(root: str, now: float | None = None) -> list[StageStatus]:
    """All stages below a root, those that run first, then by their last sign of life. Raises StorageError."""
    now = time.time() if now is None else now
    base = storage.location(root)
    folders: dict[str, set[str]] = {}
    for path in _list_files(base / "stages"):
        folder, _, rest = path.partition("/")
        if rest:
            folders.setdefault(folder, set()).add(rest)
    found = [_status(base / "stages" / folder, files, now) for folder, files in folders.items()]
    return sorted(found, key=lambda one: (one.state != "running", -(one.changed or 0)))


@dataclass(frozen=True)
class RunStatus:
    """One run: the stage that it asked for last, None if that is gone, and its results, if it has handed them over."""

    name: str
    last: StageStatus | None
    results: str


def runs_under(root: str, stages: Iterable[StageStatus]) -> list[RunStatus]:
    """All runs below a root that have asked for a stage or have results."""
    base = storage.location(root)
    by_folder = {one.folder: one for one in stages}
    found = []
    for name in storage.list_folders(base):
        asked = read_stages(base / name)
        has_results = storage.read_bytes(base / name / "results.json") is not None
        if asked or has_results:
            last = by_folder.get(asked[-1]) if asked else None
            results = str(base / name) if has_results else ""
            found.append(RunStatus(name, last, results))
    return found


def status_lines(root: str, now: float | None = None) -> list[str]:
    """The table for people."""
    now = time.time() if now is None else now
    stages = stages_under(root, now)
    if not stages:
        return [f"{root}: no stages; is it the storage.root of a run?"]
    header = ("stage", "state", "progress", "age", "owner or error", "look in")
    lines = _table([header, *(_row(one, now) for one in stages)])
    runs = runs_under(root, stages)
    if runs:
        header = ("stage now", *header[1:])
        rows = [(run.name, *(_row(run.last, now) if run.last else ("",) * len(header))) for run in runs]
        lines = [*_table([("run", *header), *rows]), "", *lines]
    finished = [run.results for run in runs if run.results]
    lines += ["", *(f"results of a finished run: {folder}" for folder in finished)] if finished else []
    counts = {state: sum(one.state == state for one in stages) for state in get_args(State)}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, "", f"{len(stages)} stages: {summary}"]


def _row(one: StageStatus, now: float) -> tuple[str, ...]:
    return one.stage, one.state, one.progress, _age(one.changed, now), one.owner or one.error, one.look


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with all columns but the last at one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _status(folder: Location, files: set[str], now: float) -> StageStatus:
    name = folder.name.rpartition("-")[0] or folder.name
    manifest = storage.read_bytes(folder / "manifest.json") if "manifest.json" in files else None
    if manifest is not None:
        try:
            made = decode_manifest(manifest)
        except StorageError as error:
            return StageStatus(
                folder.name, name, "damaged", "", None, "", str(error), str(folder / "manifest.json")
            )
        ended = datetime.fromisoformat(made.started).timestamp() + made.duration_seconds
        shown = [what for what in (*TOLD_ROWS, *made.rows) if what in made.rows]
        rows = f"{made.rows[shown[0]]} {shown[0]}" if shown else ""
        look = str(folder / "attempts" / made.attempt)
        return StageStatus(folder.name, name, "finished", rows, ended, "", "", look)
    progress, told = _progress(folder, files)
    record = _lease(folder, files)
    if record is not None and not _is_gone(record, now):
        age = f"{record.describe()}, heartbeat {_age(record.heartbeat, now)} ago"
        return StageStatus(
            folder.name, name, "running", progress, told or record.heartbeat, age, "", str(folder)
        )
    failure = _last_error(folder, files)
    if failure is None:
        last = record.heartbeat if record is not None else None
        return StageStatus(
            folder.name, name, "interrupted", progress, told or last, "", "its process is gone", str(folder)
        )
    state: State = "interrupted" if failure["type"] in ("KeyboardInterrupt", "SystemExit") else "failed"
    message = (
        f"{failure['type']}: {str(failure['message']).splitlines()[0] if failure['message'] else ''}".rstrip(
            ": "
        )
    )
    return StageStatus(folder.name, name, state, progress, failure["at"], "", message, failure["path"])


def _progress(folder: Location, files: set[str]) -> tuple[str, float | None]:
    """How far a stage is, in words, and when it said so."""
    path = f"checkpoints/{PROGRESS_FILE}"
    content = storage.read_bytes(folder / path) if path in files else None
    if content is not None:
        try:
            told = json.loads(content)
            return f"step {int(told['step'])} of {int(told['steps'])}", float(told["time"])
        except (ValueError, KeyError, TypeError):
            return "", None
    places = [path.split("/") for path in files if path.startswith("checkpoints/")]
    if steps := [step for place in places if (step := step_of(place[1])) is not None]:
        return f"checkpoint of step {max(steps)}", None
    attempts = Counter(path.split("/")[1] for path in files if path.startswith("attempts/"))
    written = sum(
        count for attempt, count in attempts.items() if f"attempts/{attempt}/error.json" not in files
    )
    return f"{written} files" if written else "", None


def _lease(folder: Location, files: set[str]) -> LeaseRecord | None:
    content = storage.read_bytes(folder / "lease.json") if "lease.json" in files else None
    return None if content is None else decode_record(content)


def _is_gone(record: LeaseRecord, now: float) -> bool:
    if record.machine == machine_identity():
        return process_start(record.process) != record.process_started
    return now > record.expires


def _last_error(folder: Location, files: set[str]) -> dict[str, Any] | None:
    """The newest error of an attempt; None where the last attempt left none that can be read."""
    errors = []
    for path in files:
        if re.fullmatch(r"attempts/[^/]+/error\.json", path):
            content = storage.read_bytes(folder / path)
            try:
                told = json.loads(content or b"")
                at = datetime.fromisoformat(told["time"]).timestamp()
                errors.append(
                    {"type": told["type"], "message": told["message"], "at": at, "path": str(folder / path)}
                )
            except (ValueError, KeyError, TypeError):
                continue
    return max(errors, key=lambda error: error["at"], default=None)


def _list_files(folder: Location) -> Iterable[str]:
    for _ in range(LIST_TRIES - 1):
        try:
            return storage.list_files(folder)
        except StorageError:
            time.sleep(0.1)
    return storage.list_files(folder)


def _age(moment: float | None, now: float) -> str:
    if moment is None:
        return ""
    seconds = max(0, round(now - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
