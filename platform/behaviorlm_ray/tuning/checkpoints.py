"""Checkpoints of a tuning run: written whole or not at all, verified before use, free of the worker count.

A checkpoint is a folder `step-00000050` with the float32 parameters and Adam's two moments by name
(safetensors, flattened), the record of the last steps (JSON lines: the lineage of the weights), and `checkpoint.json`,
which names each file with its size and sha256, and those of `step_records`, where all steps before are.
It is written last: on S3, where nothing is renamed, a checkpoint without it is none. Random numbers need no state: they
are seeded by the position in the schedule.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.manifests import canonical_json
from behaviorlm_ray.storage import FileDigest, Location
from behaviorlm_ray.tuning import step_records
from behaviorlm_ray.tuning.step_folders import earlier_steps, newest_first, step_folder

FORMAT = 3
READ = (2, 3)
"""Formats that are continued; one of the second has all its records in its own file."""
DESCRIPTION = "checkpoint.json"
RECORDS = "steps.jsonl"
INCOMPLETE = ".incomplete-"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. `step`: optimizer steps done; `records`: what each of them did, in order, from step 0, of
    which `parts` lie beside it.
    """

    folder: Location
    step: int
    shapes: dict[str, list[int]]
    records: list[dict[str, Any]]
    parts: step_records.Parts = field(default_factory=dict)

    def read(self, kind: str, name: str) -> Tensor:
        """One flattened float32 tensor of a kind (parameter, exp_avg, exp_avg_sq). Raises StorageError."""
        try:
            path = storage.local_copy(self.folder / f"{kind}.safetensors")
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{self.folder}: {kind} of {name} cannot be read: {error}") from None


def write_checkpoint(
    root: Location,
    step: int,
    state: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, Sequence[int]],
    records: Sequence[Mapping[str, Any]],
    identity: Mapping[str, str],
    parts: step_records.Parts | None = None,
) -> Location:
    """Write a checkpoint where nobody sees it, then put it into place. Returns its folder.

    records: of the steps behind the `parts`, which lie in `root`. identity: what a run must share to continue from
    here. Raises StorageError where it cannot be written;
    what was there before stays usable.
    """
    final = root / step_folder(step)
    described = {
        "format": FORMAT,
        "step": step,
        "identity": dict(identity),
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "records": {name: asdict(digest) for name, digest in (parts or {}).items()},
    }
    try:
        if isinstance(root, Path):
            _write_local(root, root / final.name, state, records, described)
        else:
            _upload(final, state, records, described)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"checkpoint of step {step} could not be written to {root}: {error}. Make room or fix "
            "the permissions and start the job again: it continues from the checkpoint before"
        ) from None
    return final


def _write_local(
    root: Path,
    final: Path,
    state: Mapping[str, Mapping[str, Tensor]],
    records: Sequence[Mapping[str, Any]],
    described: Mapping[str, Any],
) -> None:
    incomplete = root / f"{INCOMPLETE}{uuid.uuid4().hex}"
    try:
        incomplete.mkdir(parents=True)
        _write_files(incomplete, state, records, described)
        storage.flush_to_disk(incomplete, storage.list_files(incomplete))
        if final.exists():  # left by an attempt whose checkpoint did not verify
            final.rename(root / f"{INCOMPLETE}{uuid.uuid4().hex}")
        incomplete.rename(final)
        storage.flush_to_disk(root, [])
    except BaseException:
        shutil.rmtree(incomplete, ignore_errors=True)
        raise


def _upload(
    final: Location,
    state: Mapping[str, Mapping[str, Tensor]],
    records: Sequence[Mapping[str, Any]],
    described: Mapping[str, Any],
) -> None:
    """On S3 nothing can be renamed: the description goes up last, and a checkpoint is none without it."""
    storage.remove_folder(final)  # left by an attempt whose checkpoint did not verify
    with storage.writing(final) as folder:
        _write_files(folder, state, records, described)
        description = (folder / DESCRIPTION).read_bytes()
        (folder / DESCRIPTION).unlink()
    storage.write_replacing(final / DESCRIPTION, description)


def _write_files(
    folder: Path,
    state: Mapping[str, Mapping[str, Tensor]],
    records: Sequence[Mapping[str, Any]],
    described: Mapping[str, Any],
) -> None:
    for kind, tensors in state.items():
        save_file(dict(tensors), folder / f"{kind}.safetensors")
    (folder / RECORDS).write_bytes(step_records.encoded(records))
    digests = storage.hash_files(folder, storage.list_files(folder))
    body = {**described, "files": {name: asdict(digest) for name, digest in digests.items()}}
    text = json.dumps({**body, "checksum": _checksum(body)}, indent=1)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def newest_checkpoint(
    root: Location,
    identity: Mapping[str, str],
    announce: Callable[[str], None],
    earlier: Sequence[Location] = (),
) -> Checkpoint | None:
    """The newest checkpoint that verifies and has this identity; others are announced with the reason.

    earlier: those of other attempts at the same run, or folders of such; on a tie those of `root` come first.
    """
    places = [*(root / name for name in newest_first(root)), *earlier_steps(earlier)]
    for place in sorted(places, key=lambda place: place.name, reverse=True):
        try:
            return verify_checkpoint(place, identity)
        except StorageError as error:
            announce(f"checkpoint passed over: {error}")
    return None


def verify_checkpoint(folder: Location, identity: Mapping[str, str]) -> Checkpoint:
    """Read the description and check every file against it. Raises StorageError with the reason."""
    content = storage.read_bytes(folder / DESCRIPTION)
    if content is None:
        raise StorageError(f"{folder} is incomplete: {DESCRIPTION} is missing")
    try:
        description = json.loads(content)
        if description["format"] not in READ:
            raise StorageError(f"{folder} has format {description['format']}; this version reads {FORMAT}")
        if description.pop("checksum") != _checksum(description):
            raise StorageError(f"{folder / DESCRIPTION} is damaged: its content does not match its checksum")
        for key, value in identity.items():
            if description["identity"].get(key) != value:
                raise StorageError(f"{folder} belongs to another {key}")
        digests, parts = (
            {name: FileDigest(**digest) for name, digest in description.get(key, {}).items()}
            for key in ("files", "records")
        )
        step, shapes = int(description["step"]), description["shapes"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{folder / DESCRIPTION} is damaged: {error!r}") from None
    problems = storage.damaged_files(folder, digests) + step_records.damaged_parts(folder.parent, parts)
    if problems:
        raise StorageError(f"{folder} is damaged: {'; '.join(problems)}")
    verified = storage.with_digests(folder, digests)
    try:
        records = step_records.read_parts(folder.parent, parts)
        records += step_records.decoded(storage.read_text(verified / RECORDS))
    except ValueError as error:
        raise StorageError(f"{verified / RECORDS} is damaged: {error!r}") from None
    return Checkpoint(verified, step, shapes, records, parts)


def remove_unfinished(root: Location, earlier: Sequence[Location] = ()) -> None:
    """Remove what writers that died left behind, also those of `earlier` attempts; called before this run writes."""
    for folder in (root, *earlier):
        for place in (folder, *(folder / name for name in storage.list_folders(folder))):
            if place.name.startswith(INCOMPLETE):
                storage.remove_folder(place)


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(body)).hexdigest()
