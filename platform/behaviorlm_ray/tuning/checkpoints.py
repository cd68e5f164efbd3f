"""Checkpoints of a tuning run: written whole or not at all, verified before use, free of the worker count.

A checkpoint is a folder `step-00000050` with the float32 parameters and Adam's two moments by name
(safetensors, flattened), the record of every step so far (JSON lines: the lineage of the weights), and
`checkpoint.json`, which names each file with its size and sha256. Random numbers need no state: they are
seeded by the position in the schedule.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from behaviorlm.errors import StorageError

FORMAT = 1
DESCRIPTION = "checkpoint.json"
RECORDS = "steps.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. `step`: optimizer steps done; `records`: one dictionary for each of them."""

    folder: Path
    step: int
    shapes: dict[str, list[int]]

    def read(self, kind: str, name: str) -> Tensor:
        """One flattened float32 tensor of a kind (parameter, exp_avg, exp_avg_sq). Raises StorageError."""
        try:
            with safe_open(self.folder / f"{kind}.safetensors", framework="pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{self.folder}: {kind} of {name} cannot be read: {error}") from None

    def records(self) -> list[dict[str, Any]]:
        """What each step did, in order, from step 0."""
        lines = (self.folder / RECORDS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def write_checkpoint(
    root: Path,
    step: int,
    state: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, Sequence[int]],
    records: Sequence[Mapping[str, Any]],
    identity: Mapping[str, str],
) -> Path:
    """Write a checkpoint under a name of its own, then rename it into place. Returns its folder.

    identity: what a run must share to continue from here. Raises StorageError where it cannot be written;
    what was there before stays usable.
    """
    incomplete = root / f".incomplete-{uuid.uuid4().hex}"
    final = root / f"step-{step:08d}"
    try:
        incomplete.mkdir(parents=True)
        for kind, tensors in state.items():
            save_file(dict(tensors), incomplete / f"{kind}.safetensors")
        with (incomplete / RECORDS).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        files = {path.name: _describe(path) for path in sorted(incomplete.iterdir())}
        description = {
            "format": FORMAT,
            "step": step,
            "identity": dict(identity),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "files": files,
        }
        (incomplete / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")
        for path in [*incomplete.iterdir(), incomplete]:
            _flush(path)
        if final.exists():  # left by an attempt whose checkpoint did not verify
            final.rename(root / f".incomplete-{uuid.uuid4().hex}")
        incomplete.rename(final)
        _flush(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(incomplete, ignore_errors=True)
        raise StorageError(
            f"checkpoint of step {step} could not be written to {root}: {error}. Make room or fix "
            "the permissions and start the job again: it continues from the checkpoint before"
        ) from None
    return final


def newest_checkpoint(
    root: Path, identity: Mapping[str, str], announce: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that verifies and has this identity; others are announced with the reason."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            return verify_checkpoint(folder, identity)
        except StorageError as error:
            announce(f"checkpoint passed over: {error}")
    return None


def verify_checkpoint(folder: Path, identity: Mapping[str, str]) -> Checkpoint:
    """Read the description and check every file against it. Raises StorageError with the reason."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise StorageError(f"{folder} has format {description['format']}; this version reads {FORMAT}")
        for key, value in identity.items():
            if description["identity"].get(key) != value:
                raise StorageError(f"{folder} belongs to another {key}")
        for name, expected in description["files"].items():
            if _describe(folder / name) != expected:
                raise StorageError(f"{folder / name} differs from what was written (size or sha256)")
        return Checkpoint(folder, int(description["step"]), description["shapes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{folder} is incomplete or damaged: {error!r}") from None


def prune_checkpoints(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for folder in sorted(root.glob("step-*"), reverse=True)[keep:]:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(root: Path) -> None:
    """Remove what writers that died left behind; to be called before this run writes."""
    for folder in root.glob(".incomplete-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    """Make a file, or the entries of a folder, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
