"""What a finished stage says about itself: identity, files with their hashes, and how to tell damage.

Nothing here runs anything; `running` does.
"""

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from behaviorlm.config import Settings
from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import FileDigest, Location

REPORTED_PACKAGES = (
    "behaviorlm",
    "torch",
    "transformers",
    "peft",
    "ray",
    "deepspeed",
    "pyarrow",
    "numpy",
    "tokenizers",
    "safetensors",
)


MAIN_COUNTS = ("samples", "selected", "events", "rows")
"""The first of these counts that a stage has says most of it, else any."""


class FileRecord(Settings):
    """One file of a stage's output."""

    bytes: int = Field(description="size in bytes")
    sha256: str = Field(description="SHA-256 of the content, hexadecimal")


class Manifest(Settings):
    """The committed description of a stage's output. A stage without one has no output."""

    stage: str = Field(description="name of the stage")
    version: int = Field(description="version of the stage's code, part of its identity")
    fingerprint: str = Field(description="SHA-256 over name, version, config and inputs")
    attempt: str = Field(description="name of the folder below attempts/ that holds the files")
    config: dict[str, Any] = Field(
        description="the resolved configuration that made it, part of its identity"
    )
    inputs: dict[str, str] = Field(description="content hash of each input, part of its identity")
    files: dict[str, FileRecord] = Field(description="every file by its path relative to the attempt")
    rows: dict[str, int] = Field(description="row counts by name")
    metrics: dict[str, Any] = Field(description="measured values by name")
    warnings: list[str] = Field(description="what a person should know")
    versions: dict[str, str] = Field(description="versions of Python and of the packages that ran")
    started: str = Field(description="when the attempt began, ISO 8601, UTC")
    duration_seconds: float = Field(description="wall time of the attempt")
    cost: dict[str, float] = Field(description="cost counters by name, such as tokens or worker_seconds")

    @property
    def digests(self) -> dict[str, FileDigest]:
        """The files as storage describes them."""
        return {path: FileDigest(file.bytes, file.sha256) for path, file in self.files.items()}

    @property
    def main_count(self) -> tuple[str, int] | None:
        """The row count that says most of the stage, with its name; None without any."""
        names = [name for name in (*MAIN_COUNTS, *self.rows) if name in self.rows]
        return (names[0], self.rows[names[0]]) if names else None

    @property
    def content_hash(self) -> str:
        """SHA-256 over the paths and hashes of the files: equal for equal content, whenever it was made."""
        return hashlib.sha256(
            canonical_json({path: file.sha256 for path, file in self.files.items()})
        ).hexdigest()


def fingerprint(name: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Identity of a stage: SHA-256, hexadecimal, of the canonical JSON of name, version, config and inputs.

    `config` holds JSON values only (of a pydantic model: `model_dump(mode="json")`) and nothing that says
    merely how to run (paths, workers, devices). `inputs` are content hashes. Raises ConfigError otherwise.
    """
    identity = {"name": name, "version": version, "config": config, "inputs": inputs}
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, ASCII. ConfigError on what JSON cannot hold."""
    _refuse_lossy_keys(value, "")
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a stage's identity must be plain JSON values: {error}") from None
    return text.encode("ascii")


def plain_values(value: Any) -> Any:
    """A copy as JSON can hold it: numpy values as Python's, paths as text, null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | storage.S3Location) else value


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: readable JSON with a checksum over everything else in it."""
    body = manifest.model_dump(mode="json")
    checksum = hashlib.sha256(canonical_json(body)).hexdigest()
    return (
        json.dumps({**body, "checksum": checksum}, indent=1, sort_keys=True, allow_nan=False) + "\n"
    ).encode()


def decode_manifest(content: bytes) -> Manifest:
    """Read the bytes of manifest.json. Raises StorageError if a single bit is not as it was written."""
    try:
        body = json.loads(content)
        body.pop("checksum")
        manifest = Manifest.model_validate(body)
    except (ValueError, ValidationError, AttributeError, KeyError, TypeError):
        raise StorageError("manifest.json is damaged: it is not a manifest") from None
    if encode_manifest(manifest) != content:
        raise StorageError("manifest.json is damaged: its content does not match its checksum")
    return manifest


def read_manifest(stage_folder: Location) -> Manifest:
    """The manifest of a stage's folder; files are not verified. StorageError if it is missing or damaged."""
    content = storage.read_bytes(stage_folder / "manifest.json")
    if content is None:
        raise StorageError(
            f"{stage_folder}: no manifest.json, so this stage has not finished; run its job again"
        )
    try:
        return decode_manifest(content)
    except StorageError as error:
        raise StorageError(f"{stage_folder}: {error}; run its job again to replace it") from None


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, for those that are installed."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _refuse_lossy_keys(value: Any, where: str) -> None:
    """JSON would silently turn the key 1 into "1", and two configurations into one."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(
                    f"a stage's identity must be plain JSON values: the key {key!r} of {where or '(top)'}"
                )
            _refuse_lossy_keys(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_lossy_keys(item, where)
