"""A stage's identity, its folder, and the committed output that lies there, trusted only if all of its files verify."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.leftovers import ERROR_FILE
from behaviorlm_ray.stages.manifests import Manifest, canonical_json, decode_manifest, fingerprint
from behaviorlm_ray.storage import Location


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
class Identity:
    """What a stage is, and the folder in which it keeps everything."""

    name: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    folder: Location


@dataclass(frozen=True)
class Found:
    """The committed state of a stage's folder: an output, or the reasons why none can be used.

    content: the manifest's; attempt: the one that it names, "" if it cannot be read.
    """

    output: StageOutput | None
    content: bytes | None
    problems: list[str]
    attempt: str = ""


def plan_stage(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str | None],
) -> StagePlan:
    """What running a stage would do, without doing it. An input that is None is one that does not exist yet."""
    missing = sorted(key for key, value in inputs.items() if value is None)
    if missing:
        return StagePlan(name, "unknown", f"depends on {', '.join(missing)}, which must run first")
    known = {key: value for key, value in inputs.items() if value is not None}
    identity = identify(root, name, version, config, known)
    found = find(identity)
    if found.output is not None:
        return StagePlan(name, "reuse", f"finished {found.output.manifest.started}", found.output)
    return StagePlan(
        name, "run", "; ".join(found.problems) or "never finished with this config and these inputs"
    )


def stage_folder(root: str | Location, name: str, stage_fingerprint: str) -> Location:
    """Where a stage of this identity keeps everything."""
    place = storage.location(root) if isinstance(root, str) else root
    return place / "stages" / f"{name}-{stage_fingerprint[:16]}"


def identify(
    root: str | Location,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest | str],
) -> Identity:
    """The identity of a stage (see `StageCall`). Raises ConfigError where it is not plain JSON."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"a stage is named in lower case letters, digits and underscores, not {name!r}")
    hashes = {
        key: value.content_hash if isinstance(value, Manifest) else value for key, value in inputs.items()
    }
    identity = fingerprint(name, version, config, hashes)
    plain_config = json.loads(canonical_json(config))
    return Identity(name, version, plain_config, hashes, identity, stage_folder(root, name, identity))


def find(identity: Identity) -> Found:
    """What is committed now; every file is read, or its checksum asked for."""
    path = identity.folder / "manifest.json"
    content = storage.read_bytes(path)
    if content is None:
        return Found(None, None, _unfinished(identity))
    try:
        manifest = decode_manifest(content)
    except StorageError as error:
        return Found(None, content, [f"{error} ({path})"])
    if manifest.fingerprint != identity.fingerprint:
        return Found(
            None, content, [f"manifest.json belongs to another stage, {manifest.fingerprint} ({path})"]
        )
    folder = identity.folder / "attempts" / manifest.attempt
    problems = storage.damaged_files(folder, manifest.digests)
    if problems:
        return Found(None, content, [f"{problem} ({folder})" for problem in problems], manifest.attempt)
    return Found(output_in(folder, manifest, reused=True), content, [])


def output_in(folder: Location, manifest: Manifest, *, reused: bool) -> StageOutput:
    """The output of a manifest, in the folder of its attempt."""
    return StageOutput(manifest, storage.with_digests(folder, manifest.digests), reused)


def _unfinished(identity: Identity) -> list[str]:
    """Attempts that neither failed nor got committed: interrupted, still running, or manifest lost."""
    attempts = identity.folder / "attempts"
    names = storage.list_folders(attempts)
    count = sum(storage.read_bytes(attempts / name / ERROR_FILE) is None for name in names)
    return [f"manifest.json is missing beside {count} unfinished attempt(s) ({attempts})"] if count else []
