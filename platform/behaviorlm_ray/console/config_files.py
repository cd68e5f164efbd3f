"""Configuration files that may lie on S3, as that of a run whose root is there and that its report names.

The method's own loader opens local files only, so that it needs neither boto3 nor Arrow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from behaviorlm.config import (
    Settings,
    Written,
    parse_yaml,
    read_written,
    validate_settings,
    with_overrides,
)
from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import S3Location

PATIENCE_SECONDS = 15.0
"""How long a storage that does not answer is tried: a typing error shows soon."""

SettingsT = TypeVar("SettingsT", bound=Settings)


def load_config(
    settings_class: type[SettingsT], path: str | None = None, overrides: Sequence[str] = ()
) -> tuple[SettingsT, Written]:
    """The settings of a local file or of s3://bucket/key, and how they were written. Relative paths in it start in
    the working directory.

    Raises ConfigError for a missing object and as `load_settings` does, StorageError where S3 refuses or fails.
    """
    if path is None or "://" not in path:
        written = read_written(path, overrides, settings_class)
    else:
        written = with_overrides(_stored(path, "--config"), overrides, settings_class)
    source = path or "the command line, without --config FILE"
    return validate_settings(settings_class, written.values, source, written.origins), written


def read_config(path: str | None, key: str) -> dict[str, Any]:
    """What a local file or s3://bucket/key holds, not validated; {} for None. `key` names it in errors, as above."""
    if path is None:
        return {}
    if "://" in path:
        return _stored(path, key).values
    if not Path(path).exists():
        raise ConfigError(f"{key}: there is no file {path}")
    return read_written(path).values


def _stored(path: str, key: str) -> Written:
    """What s3://bucket/key holds."""
    place = storage.location(path, PATIENCE_SECONDS)
    if not isinstance(place, S3Location) or not place.key:
        raise ConfigError(f"{key}: {path} names a bucket, not a file in it (s3://bucket/key)")
    try:
        content = storage.read_bytes(place)
    except StorageError as error:
        raise StorageError(f"{key}: {error}") from error
    if content is None:
        raise ConfigError(f"{key}: there is no object {path}")
    return parse_yaml(content, path)
