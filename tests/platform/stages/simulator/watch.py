"""What must hold in every world, looked at with each change of the bucket and at the end."""

import hashlib
import json
from functools import lru_cache

from behaviorlm.errors import DataError, StorageError
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.stages.run_record import RECORD_FILE
from tests.platform.stages.simulator.bucket import Change
from tests.platform.stages.simulator.cast import EPOCH, PARTS, ROOT, Run, Stage, content_of, record_of
from tests.platform.stages.simulator.world import Process


class Violation(AssertionError):
    """Something that must hold does not."""


class Watch:
    """Looks at each change. State: the first thing that was wrong, the manifests that were ever put, whether those that
    a removal took verified, when each lease was last renewed, which owners gave theirs back, and where something was
    damaged.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.objects = stage.bucket.objects
        folders = {key.split("/")[2] for key in self.objects if key.endswith("/manifest.json")}
        there = {folder: self.manifest_of(folder) for folder in folders}
        self.manifests = {(folder, made.attempt) for folder, made in there.items() if made is not None}
        self.condemned: dict[str, bool] = {}
        self.renewed: dict[str, float] = {}
        self.released: set[str] = set()
        self.rotten: set[str] = set()
        self.broken: Violation | None = None
        stage.bucket.watchers.append(self.changed)

    def changed(self, change: Change) -> None:
        """Look at a change. What is wrong is kept for the end: here it would be raised in production's midst."""
        try:
            self._look_at(change)
        except Violation as violation:
            self.broken = self.broken or violation

    def _look_at(self, change: Change) -> None:
        folder, _, path = change.key.removeprefix(f"{ROOT.key}/stages/").partition("/")
        if not change.key.startswith(f"{ROOT.key}/stages/"):
            return
        if change.process is self.stage.fate:
            self.rotten.add(folder)
            return
        if path == "manifest.json":
            self._manifest_changed(change, folder)
            return
        if path == "lease.json":
            self._lease_changed(change, folder)
            return
        if self.stage.cleaners.get(change.process) == ("stages",):
            self._hold_against_who_asks(change, folder)
        manifest = self.manifest_of(folder)
        if manifest is not None and path.startswith(f"attempts/{manifest.attempt}/"):
            self._output_changed(change, path, manifest)
        if path.startswith(("attempts/", "checkpoints/")):
            for run in self.stage.runs:
                self._hold_against(change, folder, path, run)

    def manifest_of(self, folder: str) -> Manifest | None:
        """What is committed, if it can be read."""
        content = self.objects.get(f"{ROOT.key}/stages/{folder}/manifest.json")
        return _decoded(content)

    def verifies(self, folder: str, manifest: Manifest | None) -> bool:
        """Whether all that a manifest names is there, whole."""
        if manifest is None:
            return False
        place = f"{ROOT.key}/stages/{folder}/attempts/{manifest.attempt}"
        return all(
            hashlib.sha256(self.objects.get(f"{place}/{path}", b"")).hexdigest() == file.sha256
            for path, file in manifest.files.items()
        )

    def _manifest_changed(self, change: Change, folder: str) -> None:
        before, after = _decoded(change.before), _decoded(change.after)
        if after is None and change.process in self.stage.cleaners:
            if before is not None:
                self.condemned[folder] = self.verifies(folder, before)
            return
        if change.process in self.stage.cleaners and (folder, after and after.attempt) in self.manifests:
            if self.condemned.get(folder) and not self.verifies(folder, after):
                raise Violation(
                    f"{change.process.name} put a manifest of {folder} back that verifies no more"
                )
            return
        if (
            self.verifies(folder, before) and folder not in self.rotten
        ):  # what rots may be put right by a late request
            raise Violation(f"{change.process.name} replaced a manifest of {folder} that verifies")
        if after is None:
            raise Violation(f"{change.process.name} put a manifest of {folder} that cannot be read")
        if not self.verifies(folder, after):
            raise Violation(f"{change.process.name} put a manifest of {folder} whose files do not verify")
        place = f"{ROOT.key}/stages/{folder}/attempts/{after.attempt}"
        expected = {part: content_of(after.stage, after.attempt, part) for part in PARTS}
        found = {path: self.objects.get(f"{place}/{path}") for path in after.files}
        if found != expected:
            raise Violation(
                f"{change.process.name} committed {sorted(found)} of {folder}: not what its body wrote"
            )
        self.manifests.add((folder, after.attempt))

    def _lease_changed(self, change: Change, folder: str) -> None:
        """Nobody takes a lease from a live owner that renewed it a short while ago, by whatever clock."""
        before, after = record_of(change.before or b""), record_of(change.after or b"")
        if change.after is None:
            if before is not None and self._process_of(before.owner) is change.process:
                self.released.add(before.owner)
            return
        if before is not None and before.owner in self.released:  # a late request put it back
            self.renewed[folder] = change.time
            return
        if after is None or before is None or before.owner == after.owner:
            self.renewed[folder] = change.time
            return
        owner, taker = self._process_of(before.owner), change.process
        is_seen_gone = owner.is_dead and owner.machine == taker.machine
        silent = change.time - self.renewed.get(folder, 0.0)
        expires = before.expires - EPOCH - owner.skew
        is_early = change.time < expires and owner.skew == taker.skew
        if (
            not is_seen_gone
            and folder in self.renewed
            and (silent <= self.stage.lease_seconds / 2 or is_early)
        ):
            raise Violation(
                f"{taker.name} took the lease of {folder} from {owner.name}, {silent:.1f} s after its heartbeat"
            )
        self.renewed[folder] = change.time

    def _process_of(self, owner: str) -> Process:
        name = owner.rpartition("-")[0]
        return next((one for one in self.stage.processes if one.name == name), Process(name, "past", 7))

    def _hold_against_who_asks(self, change: Change, folder: str) -> None:
        """A removal leaves the stages that were asked for when it got their lease."""
        is_asked_for = False
        for one in self.stage.bucket.changes:
            if one.key.endswith(RECORD_FILE) and folder.encode() in (one.after or b""):
                is_asked_for = True
            if one.process is change.process and one.key.endswith(f"{folder}/lease.json"):
                break
        if is_asked_for:
            raise Violation(f"{change.process.name} removed {change.key}, of a stage that was asked for")

    def _output_changed(self, change: Change, path: str, manifest: Manifest) -> None:
        relative = path.removeprefix(f"attempts/{manifest.attempt}/")
        if change.after != change.before and _is_named(manifest, relative, change.before):
            raise Violation(f"{change.process.name} changed or removed {path}, which the manifest names")

    def _hold_against(self, change: Change, folder: str, path: str, run: Run) -> None:
        if change.before in (None, change.after) or change.process is run.process or run.process.is_dead:
            return
        is_replaced = (
            folder in self.rotten and change.process in self.stage.cleaners
        )  # a person agreed to remove it
        for output in run.reading if not is_replaced else ():
            place = f"{output.folder}/".removeprefix(f"s3://{ROOT.bucket}/")
            relative = change.key.removeprefix(place)
            # What a manifest does not name nobody reads; a late request of who wrote it may put right what has rotted.
            if relative in output.manifest.files and not _is_named(output.manifest, relative, change.after):
                done = "removed" if change.after is None else "replaced"
                raise Violation(f"{change.process.name} {done} {path}, which {run.process.name} reads")
        used = run.using.get(folder)
        if used is None:
            return
        holder = record_of(self.objects.get(f"{ROOT.key}/stages/{folder}/lease.json", b""))
        if holder is None or holder.owner != used.lease.record.owner:
            return
        name = used.output.name.encode()
        if path.startswith(f"attempts/{used.output.name}/") or (
            path.startswith("checkpoints/") and name in change.before
        ):
            raise Violation(
                f"{change.process.name} removed or replaced {path} of {run.process.name}, which is at work on {folder} "
                "and holds its lease"
            )

    def ended(self) -> None:
        """What must hold once everything has come to its end. Raises the first Violation."""
        if self.broken is not None:
            raise self.broken
        for run in self.stage.runs:
            self._came_to_an_end(run)

    def _came_to_an_end(self, run: Run) -> None:
        name = run.process.name
        if run.process.is_dead:
            return
        if not run.has_ended:
            raise Violation(f"{name} never ended")
        if run.error is not None and not isinstance(run.error, StorageError | DataError):
            raise Violation(f"{name} failed with {run.error!r}") from run.error
        for output in run.outputs:
            folder, attempt = output.folder.parent.parent.name, output.manifest.attempt
            if (folder, attempt) not in self.manifests:
                raise Violation(f"{name} was given {folder} of {attempt}, which was never committed")
            own = run.attempts.get(folder)
            is_told = any("another process" in line for line in run.told)
            if own not in (None, attempt) and not is_told:
                raise Violation(f"{name} lost the commit of {folder} and was not told")


def _is_named(manifest: Manifest, path: str, content: bytes | None) -> bool:
    """Whether this is what a manifest names by that path."""
    file = manifest.files.get(path)
    return file is not None and content is not None and hashlib.sha256(content).hexdigest() == file.sha256


@lru_cache(maxsize=256)
def _decoded(content: bytes | None) -> Manifest | None:
    """What a manifest says whose checksum is right; told here, for production's own way is among what is tried."""
    try:
        body = json.loads(content or b"")
        checksum = body.pop("checksum")
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return (
            Manifest.model_validate(body) if hashlib.sha256(text.encode()).hexdigest() == checksum else None
        )
    except (ValueError, AttributeError, KeyError):
        return None
