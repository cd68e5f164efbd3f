"""The state of every stage below a root: progress and age, owner or last error, where to look.

Reads only what stages leave behind (manifests, leases, errors, progress), so it needs neither Ray nor the job.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.tables import age_text
from behaviorlm_ray.stages.host import Host, this_host
from behaviorlm_ray.stages.lease import LeaseRecord, decode_record
from behaviorlm_ray.stages.manifests import Manifest, decode_manifest
from behaviorlm_ray.stages.root import open_root
from behaviorlm_ray.stages.run_record import PROGRESS_FILE
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.step_folders import step_of

LIST_TRIES = 5
"""Files come and go while a running stage is listed."""

State = Literal["running", "failed", "interrupted", "finished", "damaged"]


@dataclass(frozen=True)
class StageStatus:
    """One stage.

    changed: seconds since the epoch of its last sign of life; None where it left none. holder: who holds its lease,
    which a finished one has while it is repaired or cleaned; "" where nobody does. manifest: of a finished one.
    """

    folder: str
    stage: str
    state: State
    progress: str
    changed: float | None
    owner: str
    error: str
    look: str
    holder: str = ""
    manifest: Manifest | None = None


def stages_under(root: str, now: float | None = None) -> list[StageStatus]:
    """All stages below a root, those that run first, then by their last sign of life.

    Raises StorageError, also for a root of a later format.
    """
    now = time.time() if now is None else now
    base = storage.location(root)
    open_root(base, is_written=False)
    folders: dict[str, set[str]] = {}
    for path in list_files(base / "stages"):
        folder, _, rest = path.partition("/")
        if rest:
            folders.setdefault(folder, set()).add(rest)
    found = [_status(base / "stages" / folder, files, now) for folder, files in folders.items()]
    return sorted(found, key=lambda one: (one.state != "running", -(one.changed or 0)))


def _status(folder: Location, files: set[str], now: float) -> StageStatus:
    name = folder.name.rpartition("-")[0] or folder.name
    record = _lease(folder, files)
    if record is not None and is_gone(record, now, this_host()):
        alive, holder = None, ""
    else:
        alive, holder = record, "" if record is None else record.describe()
    content = storage.read_bytes(folder / "manifest.json") if "manifest.json" in files else None
    if content is not None:
        return _committed(folder, name, content, holder)
    progress, told = _progress(folder, files)
    if alive is not None:
        owner = f"{holder}, heartbeat {age_text(alive.heartbeat, now)} ago"
        changed = told or alive.heartbeat
        return StageStatus(folder.name, name, "running", progress, changed, owner, "", str(folder), holder)
    failure = _last_error(folder, files)
    if failure is None:
        last = told or (record.heartbeat if record is not None else None)
        gone = "its process is gone"
        return StageStatus(folder.name, name, "interrupted", progress, last, "", gone, str(folder))
    state: State = "interrupted" if failure["type"] in ("KeyboardInterrupt", "SystemExit") else "failed"
    first = str(failure["message"]).splitlines()[0] if failure["message"] else ""
    message = f"{failure['type']}: {first}".rstrip(": ")
    return StageStatus(folder.name, name, state, progress, failure["at"], "", message, failure["path"])


def _committed(folder: Location, name: str, content: bytes, holder: str) -> StageStatus:
    try:
        made = decode_manifest(content)
    except StorageError as error:
        look = str(folder / "manifest.json")
        return StageStatus(folder.name, name, "damaged", "", None, "", str(error), look, holder)
    ended = datetime.fromisoformat(made.started).timestamp() + made.duration_seconds
    rows = f"{made.main_count[1]} {made.main_count[0]}" if made.main_count else ""
    look = str(folder / "attempts" / made.attempt)
    return StageStatus(folder.name, name, "finished", rows, ended, "", "", look, holder, made)


def _progress(folder: Location, files: set[str]) -> tuple[str, float | None]:
    """How far a stage is, in words, and when it said so, if any attempt has."""
    told: list[tuple[float, str]] = []
    for path in files:
        if path.startswith("checkpoints/") and path.endswith(f"/{PROGRESS_FILE}"):
            try:
                found = json.loads(storage.read_bytes(folder / path) or b"")
                told.append((float(found["time"]), f"step {int(found['step'])} of {int(found['steps'])}"))
            except (ValueError, KeyError, TypeError):
                return "", None
    if told:
        time_of, words = max(told)
        return words, time_of
    parts = [part for path in files if path.startswith("checkpoints/") for part in path.split("/")]
    if steps := [step for part in parts if (step := step_of(part)) is not None]:
        return f"checkpoint of step {max(steps)}", None
    attempts = Counter(path.split("/")[1] for path in files if path.startswith("attempts/"))
    written = sum(
        count for attempt, count in attempts.items() if f"attempts/{attempt}/error.json" not in files
    )
    return f"{written} files" if written else "", None


def _lease(folder: Location, files: set[str]) -> LeaseRecord | None:
    content = storage.read_bytes(folder / "lease.json") if "lease.json" in files else None
    return None if content is None else decode_record(content)


def is_gone(record: LeaseRecord, now: float, host: Host) -> bool:
    """Whether the owner of a lease is: its process where that can be looked at, else the lease has expired."""
    if record.machine == host.machine:
        return host.start_of(record.process) != record.process_started
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


def list_files(folder: Location) -> Iterable[str]:
    """`storage.list_files` of what may change meanwhile."""
    for _ in range(LIST_TRIES - 1):
        try:
            return storage.list_files(folder)
        except StorageError:
            time.sleep(0.1)
    return storage.list_files(folder)
