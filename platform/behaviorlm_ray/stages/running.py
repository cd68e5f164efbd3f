"""Running a stage once: find its committed output or run its body, and commit what it wrote.

    <root>/stages/<name>-<fingerprint[:16]>/
        manifest.json       says which attempt is the output, and the hash of each of its files
        lease.json          who is running the stage now
        attempts/<uuid>/    what each attempt wrote; failed ones keep theirs until one is committed, and an error.json
        checkpoints/        kept from a failed attempt to the next, removed after success

Readers trust a manifest only if all of its files verify. Of two writers one commits, the other uses that. The root is
a local folder or a place on S3 (module `storage`); a stage's identity does not depend on which.
"""

import json
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from behaviorlm.errors import BehaviorLMError, ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import ERROR_FILE as ERROR_FILE
from behaviorlm_ray.stages.attempts import (
    SCRATCH,
    keep_error,
    remove_scratch,
    remove_written,
    require_untouched,
)
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker
from behaviorlm_ray.stages.manifests import (
    FileRecord,
    Manifest,
    canonical_json,
    decode_manifest,
    encode_manifest,
    fingerprint,
    package_versions,
    plain_values,
)
from behaviorlm_ray.storage import Location

LEASE_SECONDS = 60.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class StageFolder:
    """Where the body of a stage works. What lies in `output` when it returns is what gets committed.

    Both places may be on S3: write through `storage.writing` or `storage.writing_file`, also on other machines. What
    the body itself removes again goes below `output / SCRATCH`, which no other attempt sees.
    earlier: outputs of other attempts at the same stage, cut short mostly; nothing vouches for what they hold.
    """

    output: Location
    checkpoints: Location
    lease: Lease
    earlier: Sequence[Location] = ()

    @property
    def stage(self) -> str:
        """Name and fingerprint of the stage."""
        return self.checkpoints.parent.name


@dataclass(frozen=True)
class StageResult:
    """What a body reports of its output beyond the files."""

    rows: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageOutput:
    """A committed, verified output. `folder` holds the files; `reused` says that nothing had to run.

    A folder on S3 knows the digest of each file, so that whoever downloads one verifies it, wherever.
    """

    manifest: Manifest
    folder: Location
    reused: bool

    def files(self, pattern: str = "*") -> list[Location]:
        """The committed files whose relative path matches, sorted; `*` matches across folders."""
        return [self.folder / path for path in sorted(self.manifest.files) if fnmatch(path, pattern)]


@dataclass(frozen=True)
class StagePlan:
    """What running a stage would do now. `output` is there when it would be reused."""

    name: str
    action: Literal["reuse", "run", "unknown"]
    reason: str
    output: StageOutput | None = None


@dataclass(frozen=True)
class _Identity:
    name: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    folder: Location


@dataclass(frozen=True)
class _Found:
    """The committed state of a stage's folder: an output, or the reasons why none can be used.

    content: the manifest's; attempt: the one that it names, "" if it cannot be read.
    """

    output: StageOutput | None
    content: bytes | None
    problems: list[str]
    attempt: str = ""


def run_stage(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str],
    body: Callable[[StageFolder], StageResult],
    *,
    lease_seconds: float = LEASE_SECONDS,
    report: Report = print,
) -> StageOutput:
    """The output of a stage: the committed one if all of its files verify, else what `body` makes now.

    `config` is the part of the configuration that decides the output (JSON values), `inputs` the manifests or
    content hashes of what the body reads, `version` the version of its code: together the stage's identity.
    While another process runs the same stage this one waits, and says so through `report`. If the body
    raises, the attempt is kept with an error.json, its checkpoints too, and the error goes on to the caller.
    Raises ConfigError for an identity that is not plain JSON, StorageError for a full or unusable disk, or when another
    process has taken the stage over and is still at it.
    """
    identity = _identify(root, name, version, config, inputs)
    found = _find(identity)
    if found.output is not None:
        return found.output
    with _wait_for_lease(identity, lease_seconds, report) as lease:
        found = _find(identity)  # Somebody may have committed while we waited.
        if found.output is not None:
            report(f"{name}: finished by another process, whose output is used")
            return found.output
        for problem in found.problems:
            report(f"{name}: {problem}; this stage runs again")
        return _attempt(identity, found, body, lease, report)


def plan_stage(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str | None],
) -> StagePlan:
    """What `run_stage` would do, without doing it. An input that is None is one that does not exist yet."""
    missing = sorted(key for key, value in inputs.items() if value is None)
    if missing:
        return StagePlan(name, "unknown", f"depends on {', '.join(missing)}, which must run first")
    known = {key: value for key, value in inputs.items() if value is not None}
    identity = _identify(root, name, version, config, known)
    found = _find(identity)
    if found.output is not None:
        return StagePlan(name, "reuse", f"finished {found.output.manifest.started}", found.output)
    return StagePlan(
        name, "run", "; ".join(found.problems) or "never finished with this config and these inputs"
    )


def stage_folder(root: str | Location, name: str, stage_fingerprint: str) -> Location:
    """Where a stage of this identity keeps everything."""
    place = storage.location(root) if isinstance(root, str) else root
    return place / "stages" / f"{name}-{stage_fingerprint[:16]}"


def _identify(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str],
) -> _Identity:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"a stage is named in lower case letters, digits and underscores, not {name!r}")
    hashes = {
        key: value.content_hash if isinstance(value, Manifest) else value for key, value in inputs.items()
    }
    identity = fingerprint(name, version, config, hashes)
    plain_config = json.loads(canonical_json(config))
    return _Identity(name, version, plain_config, hashes, identity, stage_folder(root, name, identity))


def _find(identity: _Identity) -> _Found:
    path = identity.folder / "manifest.json"
    content = storage.read_bytes(path)
    if content is None:
        return _Found(None, None, _unfinished(identity))
    try:
        manifest = decode_manifest(content)
    except StorageError as error:
        return _Found(None, content, [f"{error} ({path})"])
    if manifest.fingerprint != identity.fingerprint:
        return _Found(
            None, content, [f"manifest.json belongs to another stage, {manifest.fingerprint} ({path})"]
        )
    folder = identity.folder / "attempts" / manifest.attempt
    problems = storage.damaged_files(folder, manifest.digests)
    if problems:
        return _Found(None, content, [f"{problem} ({folder})" for problem in problems], manifest.attempt)
    return _Found(_output(manifest, folder, reused=True), content, [])


def _output(manifest: Manifest, folder: Location, *, reused: bool) -> StageOutput:
    return StageOutput(manifest, storage.with_digests(folder, manifest.digests), reused)


def _unfinished(identity: _Identity) -> list[str]:
    """Attempts that neither failed nor got committed: interrupted, still running, or manifest lost."""
    attempts = identity.folder / "attempts"
    names = storage.list_folders(attempts)
    count = sum(storage.read_bytes(attempts / name / ERROR_FILE) is None for name in names)
    return [f"manifest.json is missing beside {count} unfinished attempt(s) ({attempts})"] if count else []


def _wait_for_lease(identity: _Identity, lease_seconds: float, report: Report) -> Lease:
    seeker = LeaseSeeker(identity.folder / "lease.json", lease_seconds)
    announced = ""
    while True:
        holder = seeker.try_acquire()
        if isinstance(holder, Lease):
            return holder
        if holder.owner != announced:
            report(f"{identity.name}: being run by {holder.describe()}; waiting for it")
            announced = holder.owner
        time.sleep(min(1.0, lease_seconds / 10))


def _attempt(
    identity: _Identity,
    found: _Found,
    body: Callable[[StageFolder], StageResult],
    lease: Lease,
    report: Report,
) -> StageOutput:
    attempt = uuid.uuid4().hex
    output = identity.folder / "attempts" / attempt
    checkpoints = identity.folder / "checkpoints"
    earlier = [output.parent / name for name in storage.list_folders(output.parent) if name != found.attempt]
    remove_scratch(earlier)
    storage.make_folder(output)
    storage.make_folder(checkpoints)
    started, begun = datetime.now(UTC), time.monotonic()
    try:
        result = body(StageFolder(output, checkpoints, lease, earlier))
        digests = storage.describe_folder(output)
        manifest = Manifest(
            stage=identity.name,
            version=identity.version,
            fingerprint=identity.fingerprint,
            attempt=attempt,
            config=identity.config,
            inputs=identity.inputs,
            files={
                path: FileRecord(bytes=digest.bytes, sha256=digest.sha256) for path, digest in digests.items()
            },
            rows=plain_values(result.rows),
            metrics=plain_values(result.metrics),
            warnings=list(result.warnings),
            versions=package_versions(),
            started=started.isoformat(timespec="seconds"),
            duration_seconds=round(time.monotonic() - begun, 3),
            cost=plain_values(result.cost),
        )
        committed = _commit(identity, found.content, manifest, output, lease)
    except BaseException as error:
        note = f"stage {identity.name}: what this attempt wrote is kept in {output}"
        is_full = storage.is_disk_full(error)
        if is_full:
            note += "; it may be removed to free space"
            _remove(output / SCRATCH)  # makes room, also for the record of the error
        keep_error(output, error)
        if is_full and not isinstance(error, StorageError):
            full = output if isinstance(output, Path) else tempfile.gettempdir()
            told = StorageError(f"{identity.name}: {storage.disk_full_message(full)}")
            told.add_note(note)
            raise told from error
        inner = getattr(error, "cause", None)
        if isinstance(error, BehaviorLMError) and isinstance(inner, BehaviorLMError):
            inner.add_note(
                note
            )  # what Ray makes of an error of ours speaks of tracebacks; the one inside is meant
            raise inner from error
        error.add_note(note)
        raise
    if committed.manifest.attempt != attempt:
        report(f"{identity.name}: another process committed first; its output is used, this attempt removed")
        _remove(output)
    elif found.content is None or found.attempt:  # else one of them may be an output that is still read
        remove_written(earlier)
    _remove(checkpoints)
    return committed


def _remove(folder: Location) -> None:
    """What is not needed any more; a storage that fails here fails nothing: the output is committed."""
    with suppress(StorageError):
        storage.remove_folder(folder)


def _commit(
    identity: _Identity, damaged: bytes | None, manifest: Manifest, output: Location, lease: Lease
) -> StageOutput:
    """Make the attempt the output of its stage, unless another one that verifies got there first.

    Raises StorageError if the lease is lost, or was for a while, and whoever took it has not committed yet.
    """
    path, content = identity.folder / "manifest.json", encode_manifest(manifest)
    decode_manifest(content)  # What does not read back must fail here, not at the next run.
    while True:
        try:
            lease.check()
            require_untouched(output)
        except StorageError:
            found = _find(identity)
            if found.output is None:
                raise
            return found.output
        if damaged is None:
            written = storage.write_exclusive(path, content)
        else:
            written = storage.replace_if(path, content, damaged)
        if written:
            return _output(manifest, output, reused=False)
        found = _find(identity)
        if found.output is not None:
            return found.output
        damaged = found.content
