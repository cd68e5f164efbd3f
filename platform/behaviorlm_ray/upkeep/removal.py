"""What below a root nothing needs any more, and its removal: old attempts, unreached stages, copies of S3 objects.

Whatever is removed of a stage is removed under its lease, so that no job begins in the middle, and by names that were
listed while that was so: attempts have names of their own, so what a job writes that takes over meanwhile stays. The
manifest is first made one that nobody trusts. What is cut short is finished by the next removal.
"""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.tables import age_text
from behaviorlm_ray.stages.host import Host, this_host
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker
from behaviorlm_ray.stages.manifests import decode_manifest
from behaviorlm_ray.stages.run_record import PROGRESS_FILE
from behaviorlm_ray.stages.running import LEASE_SECONDS
from behaviorlm_ray.storage import Location
from behaviorlm_ray.upkeep.copies import copies_size, remove_copies
from behaviorlm_ray.upkeep.reach import asked_for, reached
from behaviorlm_ray.upkeep.stage_states import StageStatus, is_gone, list_files, stages_under

Kind = Literal["attempts", "stages", "copies"]

STAGE_FOLDER = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{16}")
"""What the project itself names so; anything else below `stages` is somebody's own."""
LEASE_FILE = "lease.json"
ASKED_FOR = "a job has asked for it since it was listed"
PAUSE = 1.0
"""Seconds between looks at a lease that has expired and may yet be renewed."""


@dataclass(frozen=True)
class Removable:
    """One row of the list. place: a stage's folder, or that of the copies; below: what of a stage goes, () for all."""

    kind: Kind
    place: Location
    size: int
    why: str
    below: tuple[str, ...] = ()


@dataclass
class Found:
    """What would be removed. left: lines that say what is left alone for now; refused: what cannot be decided, and what
    to do about it.
    """

    removable: list[Removable] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def find_removable(
    root: str, kinds: Collection[Kind], older_than: float = 0.0, now: float | None = None
) -> Found:
    """What nothing needs any more and gave its last sign of life more than `older_than` seconds ago.

    Raises StorageError, also for a root of a later format.
    """
    now = time.time() if now is None else now
    base = storage.location(root)
    stages = [one for one in stages_under(root, now) if STAGE_FOLDER.fullmatch(one.folder)]
    found = Found(left=[] if stages else [f"{root}: no stages; is it the storage.root of a run?"])
    reach = reached(base, stages) if "stages" in kinds else None
    if reach is not None and reach.unknown:
        found.refused += [
            f"stages are left, for what they are needed by is not known: {text}" for text in reach.unknown
        ]
        reach = None
    sizes = _sizes(base / "stages") if stages else {}
    for one in stages:
        is_unreached = reach is not None and one.folder not in reach.stages
        whole = _whole(base, one, sizes.get(one.folder, {}), now) if is_unreached else None
        attempts = (
            _attempts(base, one, sizes.get(one.folder, {})) if "attempts" in kinds and not whole else None
        )
        item = whole or attempts
        if item is None or (older_than and (one.changed is None or now - one.changed < older_than)):
            continue
        if one.holder:
            found.left.append(f"left alone: {one.folder}: its lease is held by {one.holder}")
        else:
            found.removable.append(item)
    if "copies" in kinds:
        _find_copies(found, stages, older_than, now)
    return found


def remove(
    item: Removable,
    root: str,
    older_than: float = 0.0,
    lease_seconds: float = LEASE_SECONDS,
    host: Host | None = None,
) -> str:
    """Remove it. Returns "" if it is gone, else why it is, or a part of it, still there. Raises StorageError."""
    here = host or this_host()
    if item.kind == "copies":
        return remove_copies(older_than, here.clock.now())
    lease = _take_lease(item.place, lease_seconds, here)
    if isinstance(lease, str):
        return lease
    with lease:
        problem = (
            _remove_attempts(item) if item.kind == "attempts" else _remove_stage(item.place, root, lease)
        )
    if problem or item.kind == "attempts":
        return problem
    storage.remove_emptied(item.place, LEASE_FILE)
    left = storage.list_files(item.place)
    return "" if not left or LEASE_FILE in left else f"cannot remove {item.place / left[0]}"


def _whole(base: Location, one: StageStatus, files: Mapping[str, int], now: float) -> Removable:
    age = age_text(one.changed, now)
    state = f"{one.state} {age} ago" if age else one.state
    why = f"no run, search or study reaches it; {state}"
    return Removable("stages", base / "stages" / one.folder, sum(files.values()), why)


def _attempts(base: Location, one: StageStatus, files: Mapping[str, int]) -> Removable | None:
    """Of a finished stage, all attempts but the committed one, and checkpoints. Others are gone on with."""
    if one.manifest is None:
        return None
    committed = f"attempts/{one.manifest.attempt}"
    below = {top for top in map(_top, files) if top.startswith(("attempts/", "checkpoints/"))} - {committed}
    if not below:
        return None
    size = sum(size for path, size in files.items() if _top(path) in below)
    number = sum(top.startswith("attempts/") for top in below)
    parts = [f"{number} attempt{'s' * (number > 1)} beside the committed one"] if number else []
    parts += ["checkpoints"] if len(below) > number else []
    return Removable(
        "attempts", base / "stages" / one.folder, size, " and ".join(parts), tuple(sorted(below))
    )


def _find_copies(found: Found, stages: Collection[StageStatus], older_than: float, now: float) -> None:
    try:
        number, size = copies_size(older_than, now)
        folder = storage.copies_folder()
    except StorageError as error:
        found.refused.append(f"copies: {error}")
        return
    if number and any(one.holder for one in stages):
        found.left.append(f"left alone: {folder}: a job is at work below this root and may read these copies")
    elif number:
        why = f"{number} object{'s' * (number > 1)} of S3, fetched again where needed"
        found.removable.append(Removable("copies", folder, size, why))


def _remove_attempts(item: Removable) -> str:
    content = storage.read_bytes(item.place / "manifest.json")
    try:
        manifest = decode_manifest(content or b"")
    except StorageError:
        return "it has changed since it was listed"
    committed = f"attempts/{manifest.attempt}"
    if storage.damaged_files(item.place / committed, manifest.digests):
        return "its output is damaged, and what is beside it may be its repair; run its job again"
    going = [item.place / path for path in item.below if path != committed]
    for folder in going:
        _remove_top(folder)
    storage.remove_emptied(item.place / "checkpoints", PROGRESS_FILE)
    left = [folder for folder in going if storage.list_files(folder)]
    return f"cannot remove all of {left[0]}" if left else ""


def _remove_stage(stage: Location, root: str, lease: Lease) -> str:
    """Remove all but the lease. Returns "", or why it stays."""
    base, manifest = storage.location(root), stage / "manifest.json"
    if stage.name in asked_for(base):
        return ASKED_FOR
    content = storage.read_bytes(manifest)
    condemned = f"being removed by {lease.record.owner}".encode()
    if content is not None:
        if not storage.replace_if(manifest, condemned, content):
            return "it has changed since it was listed"
        # A job may have asked just now, have read the manifest, and be reading its files.
        if stage.name in asked_for(base):
            storage.replace_if(manifest, content, condemned)
            return ASKED_FOR
    tops = sorted({_top(path) for path in storage.list_files(stage) if "/" in path})
    lease.check()  # after it was listed: nothing of that is of somebody who takes the stage over later
    for top in tops:
        _remove_top(stage / top)
    storage.remove_if(manifest, condemned)
    return ""


def _top(path: str) -> str:
    """The folder of an attempt, or of its checkpoints, that a file of a stage lies in."""
    return "/".join(path.split("/")[:2])


def _remove_top(place: Location) -> None:
    storage.remove_folder(place)
    content = storage.read_bytes(place)  # in earlier versions there was a file beside those folders
    if content is not None:
        storage.remove_if(place, content)


def _take_lease(stage: Location, seconds: float, host: Host) -> Lease | str:
    """The lease of a stage, or who works at it. One that has expired elsewhere is watched for a while, as jobs do."""
    seeker = LeaseSeeker(stage / LEASE_FILE, seconds, host)
    while True:
        holder = seeker.try_acquire()
        if isinstance(holder, Lease):
            return holder
        if not is_gone(holder, host.clock.now(), host):
            return f"its lease is held by {holder.describe()}"
        host.clock.sleep(min(PAUSE, seconds / 10))


def _sizes(stages: Location) -> dict[str, dict[str, int]]:
    """Bytes of each file by the stage's folder and its path in it."""
    found: dict[str, dict[str, int]] = {}
    for path, size in storage.sizes(stages, list_files(stages)).items():
        folder, _, rest = path.partition("/")
        found.setdefault(folder, {})[rest] = size
    return found
