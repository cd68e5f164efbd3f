"""Which stages below a root are reached: those of its runs, searches and studies, and what these were made from.

A run names the folders of its stages in its record. One that finished before there were records is recognized by its
results, a copy of a file of the stage that made them. A search also names the stages of each task that ended; the
record of a condition and seed of a study gives the fingerprint of its last stage. A stage's manifest holds the content
hashes of what it was made from, which are those of other stages' manifests.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from behaviorlm_ray import storage
from behaviorlm_ray.stages.run_record import RECORD_FILE, decode_asked
from behaviorlm_ray.storage import Location
from behaviorlm_ray.upkeep.stage_states import StageStatus

RESULTS_FILE = "results.json"


@dataclass
class Reach:
    """Folders of stages that are reached; unknown: for each thing of which that cannot be told, what to do about it."""

    stages: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def reached(root: Location, stages: Iterable[StageStatus]) -> Reach:
    """What is reached of these stages, all that lie below the root. Raises StorageError."""
    by_name = {one.folder: one for one in stages}
    reach = Reach()
    for name in storage.list_folders(root):
        if name != "stages":
            _add_named(reach, root / name, by_name)
    by_content: dict[str, list[str]] = {}
    for one in by_name.values():
        if one.manifest is not None:
            by_content.setdefault(one.manifest.content_hash, []).append(one.folder)
    waiting = [name for name in reach.stages if name in by_name]
    while waiting:
        one = by_name[waiting.pop()]
        if one.state == "damaged":
            reach.unknown.append(
                f"{one.look} is damaged, so what it was made from is not known; run its job again"
            )
        for content in one.manifest.inputs.values() if one.manifest is not None else ():
            makers = by_content.get(content, [])
            # Where a run names which of them it used, another that made the same, perhaps of a log that still had a
            # user who is deleted now, is not reached by that.
            if not reach.stages.intersection(makers):
                reach.stages.update(makers)
                waiting += makers
    return reach


def asked_for(root: Location) -> set[str]:
    """The stages that are named in a record now: a job names each before it looks whether it is there."""
    contents = (storage.read_bytes(root / name / RECORD_FILE) for name in storage.list_folders(root))
    told = [decode_asked(content) for content in contents if content is not None]
    return {name for asked in told if asked is not None for name in (*asked.stages, *asked.finished)}


def _add_named(reach: Reach, folder: Location, stages: Mapping[str, StageStatus]) -> None:
    content = storage.read_bytes(folder / RECORD_FILE)
    asked = None if content is None else decode_asked(content)
    if asked is not None:
        reach.stages |= {*asked.stages, *asked.finished}
    elif content is not None:
        reach.unknown.append(
            f"{folder / RECORD_FILE} is damaged, so the stages of {folder.name} are not known; remove that file and "
            "run its command again"
        )
    _add_results(reach, folder, stages, is_recorded=content is not None)
    below = storage.list_folders(folder)
    for name in below:
        if name.startswith("tasks-"):
            _add_tasks(reach, folder, name, is_recorded=content is not None)
    summary = _json_of(storage.read_bytes(folder / "summary.json")).get(
        "stages"
    )  # has those of the floor, too
    reach.stages |= set(summary) if isinstance(summary, dict) else set()
    if "records" in below:
        _add_study(reach, folder / "records", stages)


def _add_results(
    reach: Reach, folder: Location, stages: Mapping[str, StageStatus], *, is_recorded: bool
) -> None:
    results = storage.read_bytes(folder / RESULTS_FILE)
    if results is None:
        return
    digest = hashlib.sha256(results).hexdigest()
    made_by = {
        one.folder
        for one in stages.values()
        if one.manifest is not None
        and (made := one.manifest.files.get(RESULTS_FILE)) is not None
        and made.sha256 == digest
    }
    reach.stages |= made_by
    if not made_by and not is_recorded:
        reach.unknown.append(
            f"the run {folder.name} finished, and nothing says with which stages ({folder} has no {RECORD_FILE}); run "
            f"it again once with {folder / 'config.yaml'}, or remove its folder"
        )


def _add_tasks(reach: Reach, search: Location, name: str, *, is_recorded: bool) -> None:
    """The tasks of a search, by the ledger that it keeps."""
    files = storage.list_files(search / name)
    ended = [file for file in files if file.startswith("task-")]
    for file in ended:
        told = _json_of(storage.read_bytes(search / name / file))
        named = told.get("stages")
        if isinstance(named, dict):
            reach.stages |= {str(stage) for stage in named.values()}
        else:
            reach.unknown.append(
                f"{search / name / file} is damaged, so the stages of that task are not known; remove that file and "
                "run the search again"
            )
    decided = sum(file.startswith("decided-") for file in files)
    if not is_recorded and (decided > len(ended) or not ended):
        reach.unknown.append(
            f"the search {search.name} has not ended, and nothing says which stages it has finished so far; run its "
            f"command again, or remove {search}"
        )


def _add_study(reach: Reach, records: Location, stages: Mapping[str, StageStatus]) -> None:
    """What is kept of the runs of a study. A record from another machine names a stage that is not here."""
    wanted = {
        _json_of(storage.read_bytes(records / file)).get("fingerprint")
        for file in storage.list_files(records)
    }
    reach.stages |= {
        one.folder
        for one in stages.values()
        if one.manifest is not None and one.manifest.fingerprint in wanted
    }


def _json_of(content: bytes | None) -> dict[str, Any]:
    """An object of JSON, packed or not; nothing where it is something else."""
    try:
        packed = (content or b"").startswith(b"\x1f\x8b")
        found = json.loads(gzip.decompress(content or b"") if packed else content or b"")
    except (ValueError, EOFError, OSError, zlib.error):
        return {}
    return found if isinstance(found, dict) else {}
