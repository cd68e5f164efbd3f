"""What differs in a job that `ray job submit` started: it runs in Ray's own copy of the code. Needs no Ray to tell."""

import os
from pathlib import Path

from behaviorlm.errors import ConfigError


def is_submitted_job() -> bool:
    """Whether this process was started by `ray job submit`, in Ray's copy of the working directory."""
    return bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def check_storage_root(root: str, key: str = "storage.root") -> None:
    """Refuse a relative folder inside a submitted job: it would lie in Ray's temporary copy of the code."""
    if "://" not in root and is_submitted_job() and not Path(root).expanduser().is_absolute():
        raise ConfigError(
            f"{key}: {root!r} is relative, and a submitted job runs in a temporary copy of the code that Ray "
            f"removes: give s3://bucket/prefix or an absolute folder that every node reaches, --{key}=/…"
        )


def check_local_root(root: str) -> None:
    """Refuse S3 where a job still needs a folder, and what `check_storage_root` refuses."""
    if root.startswith("s3:/"):
        raise ConfigError(
            f"{root!r}: this job keeps files of its own in a folder; give one that every node reaches"
        )
    check_storage_root(root)
