"""One attempt at a stage under its lease: where its body works, what it reports, what is kept of it when it fails."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from behaviorlm.errors import BehaviorLMError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.finding import Found, Identity
from behaviorlm_ray.stages.host import Host
from behaviorlm_ray.stages.lease import Lease
from behaviorlm_ray.stages.leftovers import SCRATCH, keep_error, remove_scratch, remove_unneeded
from behaviorlm_ray.stages.manifests import FileRecord, Manifest, package_versions, plain_values
from behaviorlm_ray.storage import Location


@dataclass(frozen=True)
class StageFolder:
    """Where the body of a stage works. What lies in `output` when it returns is what gets committed.

    Both places may be on S3: write through `storage.writing` or `storage.writing_file`, also on other machines. What
    the body itself removes again goes below `output / SCRATCH`, which no other attempt sees.
    Both are this attempt's own, so that whoever had the lease before, and was only away, touches neither.
    earlier, earlier_checkpoints: those of other attempts at the same stage, cut short mostly; nothing vouches for what
    they hold, and one that is still at work may remove its own.
    """

    output: Location
    checkpoints: Location
    lease: Lease
    earlier: Sequence[Location] = ()
    earlier_checkpoints: Sequence[Location] = ()

    @property
    def stage(self) -> str:
        """Name and fingerprint of the stage."""
        return self.output.parent.parent.name


@dataclass(frozen=True)
class StageResult:
    """What a body reports of its output beyond the files."""

    rows: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Attempt:
    """A body bound to its folder: to call it is to run it, once.

    found: what was committed when the lease was got. State: `begun`, when by the clock's two readings, and `earlier`
    and `earlier_checkpoints`, what other attempts had left then; None and empty before the body is called.
    """

    identity: Identity
    found: Found
    body: Callable[[StageFolder], StageResult]
    lease: Lease
    host: Host
    name: str
    begun: tuple[float, float] | None = None
    earlier: Sequence[Location] = ()
    earlier_checkpoints: Sequence[Location] = ()

    @property
    def output(self) -> Location:
        """What it writes."""
        return self.identity.folder / "attempts" / self.name

    @property
    def checkpoints(self) -> Location:
        """What another attempt may go on from."""
        return self.identity.folder / "checkpoints" / self.name

    def __call__(self) -> StageResult:
        """Run the body. Raises what it raises, and StorageError, also if somebody else has the lease by now."""
        attempts, checkpoints = self.output.parent, self.checkpoints.parent
        known = [name for name in storage.list_folders(attempts) if name != self.found.attempt]
        self.earlier = [attempts / name for name in known]
        self.earlier_checkpoints = [checkpoints / name for name in storage.list_folders(checkpoints)]
        self.lease.check()  # after it was listed: nothing of that is of somebody who gets the lease later
        remove_scratch(self.earlier)
        storage.make_folder(self.output)
        storage.make_folder(self.checkpoints)
        self.begun = self.host.clock.now(), self.host.clock.monotonic()
        folder = StageFolder(
            self.output, self.checkpoints, self.lease, self.earlier, self.earlier_checkpoints
        )
        return self.body(folder)

    def manifest(self, result: StageResult) -> Manifest:
        """What the attempt made, every file made durable and hashed. Raises StorageError."""
        # A request to write scratch that was given up may take effect after its removal.
        described = storage.describe_folder(self.output).items()
        digests = {path: digest for path, digest in described if not path.startswith(f"{SCRATCH}/")}
        started, begun = self.begun or (self.host.clock.now(), self.host.clock.monotonic())
        return Manifest(
            stage=self.identity.name,
            version=self.identity.version,
            fingerprint=self.identity.fingerprint,
            attempt=self.name,
            config=self.identity.config,
            inputs=self.identity.inputs,
            files={path: FileRecord(bytes=one.bytes, sha256=one.sha256) for path, one in digests.items()},
            rows=plain_values(result.rows),
            metrics=plain_values(result.metrics),
            warnings=list(result.warnings),
            versions=package_versions(),
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            duration_seconds=round(self.host.clock.monotonic() - begun, 3),
            cost=plain_values(result.cost),
        )

    def failed(self, error: BaseException) -> BaseException:
        """Keep the error beside what was written. Returns what to raise: the error in words that help, with a note.

        Of an attempt that had not begun, nothing is kept.
        """
        if self.begun is None:
            return error
        note = f"stage {self.identity.name}: what this attempt wrote is kept in {self.output}"
        is_full = storage.is_disk_full(error)
        if is_full:
            note += "; it may be removed to free space"
            remove_unneeded(self.output / SCRATCH)  # makes room, also for the record of the error
        keep_error(self.output, error, self.host.clock.now())
        told, inner = error, getattr(error, "cause", None)
        if is_full and not isinstance(error, StorageError):
            full = self.output if isinstance(self.output, Path) else tempfile.gettempdir()
            told = StorageError(f"{self.identity.name}: {storage.disk_full_message(full)}")
        elif isinstance(error, BehaviorLMError) and isinstance(inner, BehaviorLMError):
            told = inner  # what Ray makes of an error of ours speaks of tracebacks; the one inside is meant
        if told is not error:
            told.__cause__ = error
        told.add_note(note)
        return told
