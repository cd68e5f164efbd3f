"""Looking at the storage before cluster work: whether it is there, may be used and keeps what is promised."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage import operations
from behaviorlm_ray.storage.locations import Location, S3Location, with_patience

if TYPE_CHECKING:
    from behaviorlm_ray.storage import s3
else:
    from behaviorlm_ray.storage import on_s3 as s3

PREFLIGHT_SECONDS = 15.0
"""How long a storage that does not answer is tried before a job starts (our choice): a typing error shows soon."""


def check_root(root: Location, *, is_written: bool) -> None:
    """Whether stages can be kept below a root. Raises StorageError that says what is wrong and what to do.

    is_written: also try writing (and leave nothing behind); without, nothing is written anywhere.
    """
    if isinstance(root, Path):
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        if is_written and not (there.is_dir() and os.access(there, os.W_OK)):
            raise StorageError(f"cannot write {root}: {there} is no folder that this user may write into")
        return
    hurried = with_patience(root, min(root.patience_seconds, PREFLIGHT_SECONDS))
    assert isinstance(hurried, S3Location)
    operations.list_folders(hurried)
    if not is_written:
        return
    if not s3.honors_conditions(hurried / f".preflight-{uuid.uuid4().hex}"):
        raise StorageError(
            f"{root}: this storage ignores the conditions If-None-Match and If-Match, so two jobs could overwrite each "
            "other's results. Use AWS S3 or an S3 server that honors conditional writes"
        )
