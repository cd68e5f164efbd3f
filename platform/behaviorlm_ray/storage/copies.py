"""Verified copies on this machine of what lies on S3, for libraries that map or open local files.

Copies lie below the temporary folder of the machine (TMPDIR), named by their SHA-256, so that all processes and runs
share them and none is fetched twice. A copy is verified when it is fetched. Removing the folder is always safe
between runs.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage import local, s3_objects, s3_transfers
from behaviorlm_ray.storage.full_disk import storage_errors
from behaviorlm_ray.storage.local import copies_folder
from behaviorlm_ray.storage.locations import FileDigest, S3Location


def local_copy(place: S3Location) -> Path:
    """A copy held against the place's digests, else against what S3 says of its objects now."""
    digests = place.digests if place.digests is not None else _digests_now(place)
    if not digests:
        raise StorageError(f"{place} is missing; run the same command again to repair it")
    return _file(place, digests[""]) if "" in digests else _folder(place, digests)


def _digests_now(place: S3Location) -> dict[str, FileDigest]:
    single = s3_objects.digest_of(place) if place.key else None
    if single is not None:
        return {"": single}
    names = list(s3_objects.all_sizes(place))
    found = zip(
        names, s3_objects.in_threads(lambda name: s3_objects.digest_of(place / name), names), strict=True
    )
    return {name: digest for name, digest in found if digest is not None}


def _file(place: S3Location, digest: FileDigest) -> Path:
    path = copies_folder() / digest.sha256
    if _is_there(path, digest):
        return path
    with local.exclusive_lock(path):  # processes of a machine that want the same file fetch it once
        if _is_there(path, digest):
            return path
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            received = s3_transfers.download(place, unfinished, digest.bytes)
            if received != digest:  # of parts S3 keeps no checksum to hold each answer against
                received = s3_transfers.download(place, unfinished, digest.bytes)
            if received != digest:
                raise StorageError(s3_objects.changed_message(place))
            local.flush_to_disk(path.parent, [unfinished.name])
            unfinished.chmod(0o400)  # whoever opens it to write by mistake is told
            unfinished.replace(path)
        except OSError as error:
            raise StorageError(f"cannot copy {place} to {path}: {error.strerror or error}") from error
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
    return path


def _is_there(path: Path, digest: FileDigest) -> bool:
    try:
        return path.stat().st_size == digest.bytes
    except FileNotFoundError:
        return False


def _folder(place: S3Location, digests: Mapping[str, FileDigest]) -> Path:
    """A folder of hard links to the copies of its files, made whole or not at all."""
    listing = json.dumps(sorted((path, digest.sha256) for path, digest in digests.items()))
    final = copies_folder() / f"folder-{hashlib.sha256(listing.encode()).hexdigest()}"
    if final.is_dir():
        return final
    unfinished = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    for relative in digests:
        s3_objects.check_relative(relative, place)
    found = {path: digest.bytes for path, digest in digests.items()}
    copies = s3_transfers.of_each(lambda path: (path, _file(place / path, digests[path])), found)
    try:
        with storage_errors(final, "write"):
            for relative, copy in copies:
                (unfinished / relative).parent.mkdir(parents=True, exist_ok=True)
                os.link(copy, unfinished / relative)
            try:
                unfinished.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was first, with the same content
                    raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return final
