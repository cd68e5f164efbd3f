"""Objects on S3 with the same guarantees as local files: exclusive creation, replacement of known bytes, hashes.

Conditions are If-None-Match and If-Match. Every object is stored with its SHA-256 as S3's own checksum, so that its
content can be told without reading it. Objects too large for one request carry the SHA-256 as metadata instead.
"""

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from behaviorlm.errors import StorageError
from behaviorlm_ray.storage.full_disk import storage_errors
from behaviorlm_ray.storage.local import hash_file as hash_local_file
from behaviorlm_ray.storage.locations import FileDigest, S3Location
from behaviorlm_ray.storage.s3_access import (
    CONNECTIONS,
    DENIED_CODES,
    MISSING_CODES,
    error_code,
    patiently,
    was_repeated,
)

SINGLE_REQUEST_BYTES = 4 << 30
"""Larger files go up in several parts, of which S3 keeps no SHA-256 of the whole."""
BLOCK_BYTES = 8 << 20
SHA256 = "sha256"

T = TypeVar("T")
U = TypeVar("U")


def read_bytes(place: S3Location) -> bytes | None:
    """The content of an object, or None if there is none; held against the place's digest if it has one."""
    found = _read(place)
    if found is None:
        return None
    expected = (place.digests or {}).get("")
    if expected is not None and hashlib.sha256(found[0]).hexdigest() != expected.sha256:
        raise StorageError(changed_message(place))
    return found[0]


def write_exclusive(place: S3Location, content: bytes) -> bool:
    """Create an object with its full content. False if it exists already."""
    return _put_if(place, content, {"IfNoneMatch": "*"})


def write_replacing(place: S3Location, content: bytes) -> None:
    """Create or replace an object, whoever wrote it before."""
    patiently(place, "write", lambda client, _: client.put_object(**_object(place), **_body(content)))


def replace_if(place: S3Location, content: bytes, expected: bytes) -> bool:
    """Replace an object only if it still holds `expected`. False if it holds something else or is gone."""
    found = _read(place)
    if found is None or found[0] != expected:
        return False
    return _put_if(place, content, {"IfMatch": found[1]})


def remove_if(place: S3Location, expected: bytes) -> bool:
    """Remove an object only if it still holds `expected`. False if it holds something else or is gone."""
    found = _read(place)
    if found is None or found[0] != expected:
        return False

    def remove(client: Any, is_repeated: bool) -> bool:
        try:
            client.delete_object(**_object(place), IfMatch=found[1])
            return True
        except ClientError as error:
            if error_code(error) in MISSING_CODES:
                return is_repeated or was_repeated(error)
            if error_code(error) == "PreconditionFailed":
                return False
            raise

    return patiently(place, "remove", remove)


def upload(path: Path, place: S3Location) -> FileDigest:
    """Store a local file. Raises StorageError; an object that was there before is replaced whole or not at all."""
    digest = hash_local_file(path)

    def send(client: Any, _: bool) -> None:
        if digest.bytes > SINGLE_REQUEST_BYTES:
            extra = {"ChecksumAlgorithm": "SHA256", "Metadata": {SHA256: digest.sha256}}
            config = TransferConfig(multipart_threshold=SINGLE_REQUEST_BYTES, multipart_chunksize=64 << 20)
            client.upload_file(str(path), place.bucket, place.key, ExtraArgs=extra, Config=config)
            return
        with storage_errors(path, "read"), open(path, "rb") as stream:
            client.put_object(**_object(place), Body=stream, **_checksum(bytes.fromhex(digest.sha256)))

    patiently(place, "write", send)
    return digest


def download(place: S3Location, path: Path) -> FileDigest:
    """Copy an object into a local file. Returns what was received. StorageError if there is no object."""

    def receive(client: Any, _: bool) -> FileDigest:
        try:
            body = client.get_object(**_object(place))["Body"]
        except ClientError as error:
            if _is_missing(client, place, error):
                raise StorageError(f"{place} is missing") from error
            raise
        hashed, size = hashlib.sha256(), 0
        with open(path, "wb") as stream:
            for block in body.iter_chunks(BLOCK_BYTES):
                stream.write(block)
                hashed.update(block)
                size += len(block)
        return FileDigest(size, hashed.hexdigest())

    with storage_errors(path, "write"):
        return patiently(place, "read", receive)


def digest_of(place: S3Location) -> FileDigest | None:
    """Size and SHA-256 of an object, or None if there is none. Reads it only if S3 does not know its SHA-256."""

    def look(client: Any, _: bool) -> FileDigest | None:
        try:
            head = client.head_object(**_object(place), ChecksumMode="ENABLED")
        except ClientError as error:
            if _is_missing(client, place, error):
                return None
            raise
        checksum, whole = head.get("ChecksumSHA256", ""), head.get("Metadata", {}).get(SHA256)
        if whole is not None:
            return FileDigest(head["ContentLength"], whole)
        if checksum and "-" not in checksum:
            return FileDigest(head["ContentLength"], base64.b64decode(checksum).hex())
        body = client.get_object(**_object(place))["Body"]
        hashed = hashlib.sha256()
        for block in body.iter_chunks(BLOCK_BYTES):
            hashed.update(block)
        return FileDigest(head["ContentLength"], hashed.hexdigest())

    return patiently(place, "look at", look)


def all_sizes(folder: S3Location) -> dict[str, int]:
    """Size in bytes of every object below a prefix, by relative path, sorted. StorageError for '..' in a key."""
    prefix = _prefix(folder)
    found = {}
    for page in _pages(folder):
        for item in page.get("Contents", []):
            relative = item["Key"].removeprefix(prefix)
            if relative:
                check_relative(relative, folder)
                found[relative] = int(item["Size"])
    return dict(sorted(found.items()))


def list_folders(folder: S3Location) -> list[str]:
    """Names of what lies one level below a prefix and has something below itself, sorted."""
    prefix = _prefix(folder)
    pages = _pages(folder, Delimiter="/")
    return sorted(
        item["Prefix"].removeprefix(prefix).rstrip("/")
        for page in pages
        for item in page.get("CommonPrefixes", [])
    )


def remove_folder(folder: S3Location, kept: Collection[str] = ()) -> None:
    """Remove every object below a prefix, but those of these relative paths."""
    names = [name for name in all_sizes(folder) if name not in kept]
    for start in range(0, len(names), 1000):
        keys = [{"Key": f"{_prefix(folder)}{name}"} for name in names[start : start + 1000]]

        def remove(client: Any, _: bool, keys: list[dict[str, str]] = keys) -> list[dict[str, Any]]:
            return client.delete_objects(Bucket=folder.bucket, Delete={"Objects": keys, "Quiet": True}).get(
                "Errors", []
            )

        failed = patiently(folder, "remove", remove)
        if failed:
            raise StorageError(f"cannot remove {len(failed)} objects below {folder}: {failed[0].get('Code')}")


def honors_conditions(probe: S3Location) -> bool:
    """Whether the server honors If-None-Match and If-Match. Writes an object that must not exist, and removes it."""
    try:
        created = write_exclusive(probe, b"first")
        refused = not write_exclusive(probe, b"second") and not _put_if(probe, b"third", {"IfMatch": '"0"'})
        return created and refused and read_bytes(probe) == b"first"
    finally:
        patiently(probe, "remove", lambda client, _: client.delete_object(**_object(probe)))


def in_threads(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """Results in order; requests wait for the network, so many run at once."""
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as threads:
        return list(threads.map(function, items))


def changed_message(place: S3Location) -> str:
    """What to say of content that is not what was committed."""
    return f"{place} has changed since it was written (its SHA-256 differs); run the same command again to repair it"


def check_relative(relative: str, folder: object) -> None:
    """Refuse paths that would lead out of a folder. Raises StorageError."""
    if relative.startswith("/") or any(part in ("", ".", "..") for part in PurePosixPath(relative).parts):
        raise StorageError(
            f"{folder} has an object called {relative!r}, which leads out of the folder; remove it"
        )


def _read(place: S3Location) -> tuple[bytes, str] | None:
    """Content and ETag of an object, read together."""

    def read(client: Any, _: bool) -> tuple[bytes, str] | None:
        try:
            found = client.get_object(**_object(place))
            return found["Body"].read(), found["ETag"]
        except ClientError as error:
            if _is_missing(client, place, error):
                return None
            raise

    return patiently(place, "read", read)


def _is_missing(client: Any, place: S3Location, error: ClientError) -> bool:
    """Who may list a prefix only, as a careful policy has it, is told 403 instead of 404 of a missing object."""
    code = error_code(error)
    if code in DENIED_CODES:
        page = client.list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        return all(item["Key"] != place.key for item in page.get("Contents", []))
    return code in MISSING_CODES


def _put_if(place: S3Location, content: bytes, condition: dict[str, str]) -> bool:
    def put(client: Any, is_repeated: bool) -> bool:
        try:
            client.put_object(**_object(place), **_body(content), **condition)
            return True
        except ClientError as error:
            if error_code(error) not in {"PreconditionFailed", *MISSING_CODES}:
                raise
            was_sent = is_repeated or was_repeated(error)
        # Sent before with its answer lost, the request may have failed on what it wrote itself. What is written under a
        # condition names its writer, so equal content is ours. Not read above: an error while another one is handled
        # is told from it by what that one says.
        return was_sent and (_read(place) or (None,))[0] == content

    return patiently(place, "write", put)


def _pages(folder: S3Location, **options: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:

        def ask(client: Any, _: bool, token: dict[str, str] = token) -> dict[str, Any]:
            return client.list_objects_v2(Bucket=folder.bucket, Prefix=_prefix(folder), **options, **token)

        page = patiently(folder, "list", ask)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _object(place: S3Location) -> dict[str, str]:
    return {"Bucket": place.bucket, "Key": place.key}


def _prefix(folder: S3Location) -> str:
    return f"{folder.key}/" if folder.key else ""


def _body(content: bytes) -> dict[str, Any]:
    return {"Body": content, **_checksum(hashlib.sha256(content).digest())}


def _checksum(sha256: bytes) -> dict[str, str]:
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": base64.b64encode(sha256).decode()}
