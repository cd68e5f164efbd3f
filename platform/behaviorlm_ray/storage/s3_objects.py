"""Objects on S3 with the same guarantees as local files: exclusive creation, replacement of known bytes, hashes.

Conditions are If-None-Match and If-Match. Every object is stored with its SHA-256 as S3's own checksum, so that its
content can be told without reading it. Those that went up in parts (`s3_transfers`) carry it as metadata instead.
"""

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from behaviorlm.errors import StorageError
from behaviorlm.files.patient_reads import Deadline
from behaviorlm_ray.storage import s3_access
from behaviorlm_ray.storage.locations import FileDigest, S3Location
from behaviorlm_ray.storage.s3_access import (
    CONNECTIONS,
    DENIED_CODES,
    MISSING_CODES,
    error_code,
    is_transient,
    patiently,
    was_repeated,
)

BLOCK_BYTES = 256 << 10
"""Of an answer that breaks off, what is left of the last block is lost."""
SHA256 = "sha256"
REMOVAL = "If-Match where it removes"

T = TypeVar("T")
U = TypeVar("U")
Span = tuple[int, int]


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
    patiently(place, "write", lambda client, _: client.put_object(**address(place), **_body(content)))


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

    try:
        return _delete(place, {"IfMatch": found[1]})
    except StorageError as error:
        if error_code(error) != "NotImplemented":
            raise
    return _delete(place, {})  # the next best: what is there was looked at just now


def _delete(place: S3Location, condition: dict[str, str]) -> bool:
    """Whether it was removed, by this or a repeated request whose answer was lost."""

    def remove(client: Any, is_repeated: bool) -> bool:
        try:
            client.delete_object(**address(place), **condition)
            return True
        except ClientError as error:
            if error_code(error) in MISSING_CODES:
                return is_repeated or was_repeated(error)
            if error_code(error) == "PreconditionFailed":
                return False
            raise

    return patiently(place, "remove", remove)


def digest_of(place: S3Location) -> FileDigest | None:
    """Size and SHA-256 of an object, or None if there is none. Reads it only if S3 does not know its SHA-256."""

    def look(client: Any, _: bool) -> FileDigest | None:
        try:
            head = client.head_object(**address(place), ChecksumMode="ENABLED")
        except ClientError as error:
            if is_missing(client, place, error):
                return None
            raise
        checksum, whole = head.get("ChecksumSHA256", ""), head.get("Metadata", {}).get(SHA256)
        if whole is not None:
            return FileDigest(head["ContentLength"], whole)
        if checksum and "-" not in checksum:
            return FileDigest(head["ContentLength"], base64.b64decode(checksum).hex())
        return FileDigest(head["ContentLength"], "")

    found = patiently(place, "look at", look)
    return found if found is None or found.sha256 else _read_digest(place, found.bytes)


def _read_digest(place: S3Location, size: int) -> FileDigest:
    """Of an object whose SHA-256 nobody noted. An answer that breaks off is gone on with where it did."""
    hashed, done, deadline = hashlib.sha256(), 0, Deadline(place.patience_seconds, s3_access.CLOCK)

    def take(block: bytes) -> None:
        nonlocal done
        hashed.update(block)
        done += len(block)
        deadline.restart()

    def receive(client: Any, _: bool) -> None:
        nonlocal hashed, done
        try:
            receive_some(client, place, (done, size), size, take)
        except FlexibleChecksumError:
            hashed, done = hashlib.sha256(), 0
            raise

    while done < size:
        patiently(place, "read", receive, deadline)
    return FileDigest(size, hashed.hexdigest())


def receive_some(
    client: Any, place: S3Location, span: Span, size: int, take: Callable[[bytes], None]
) -> None:
    """Hand on what one answer brings of a span [begin, end) of an object of so many bytes, block by block.

    Raises what the answer broke off with if it brought nothing, StorageError for another object than that, and
    FlexibleChecksumError for one that does not fit its checksum, when all of it has been handed on.
    """
    begin, end = span
    part = {} if (begin, end) == (0, size) else {"Range": f"bytes={begin}-{end - 1}"}
    received = 0
    try:
        answer = client.get_object(**address(place), **part)
        whole = int(answer.get("ContentRange", "/-1").rpartition("/")[2])
        if whole not in (-1, size) or answer["ContentLength"] != end - begin:
            raise StorageError(changed_message(place))
        for block in answer["Body"].iter_chunks(BLOCK_BYTES):
            take(block)
            received += len(block)
    except ClientError as error:
        if error_code(error) == "InvalidRange":
            raise StorageError(changed_message(place)) from error
        if is_missing(client, place, error):
            raise StorageError(f"{place} is missing") from error
        raise
    except BotoCoreError as error:
        if isinstance(error, FlexibleChecksumError) or not (received and is_transient(error)):
            raise


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


def ignored_conditions(probe: S3Location) -> list[str]:
    """Which of the conditions on writes ("If-None-Match", "If-Match") and removals (REMOVAL) a server ignores.

    Writes an object that must not exist, and removes it.
    """
    other = {"IfMatch": '"0"'}
    try:
        write_replacing(probe, b"first")
        refused = {
            "If-None-Match": _refuses(lambda: write_exclusive(probe, b"second")),
            "If-Match": _refuses(lambda: _put_if(probe, b"third", other)),
            REMOVAL: _refuses(lambda: _delete(probe, other)),
        }
        return [condition for condition, is_refused in refused.items() if not is_refused]
    finally:
        _delete(probe, {})


def _refuses(operation: Callable[[], bool]) -> bool:
    """Whether something that must not be done is not, on account of its condition."""
    try:
        return not operation()
    except StorageError as error:
        if error_code(error) != "NotImplemented":
            raise
        return False


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


def address(place: S3Location) -> dict[str, str]:
    """What names an object in a request."""
    return {"Bucket": place.bucket, "Key": place.key}


def sha256_of_body(sha256: bytes) -> dict[str, str]:
    """What tells the server the SHA-256 of what is sent: it refuses a body that has another."""
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": base64.b64encode(sha256).decode()}


def is_missing(client: Any, place: S3Location, error: ClientError) -> bool:
    """Who may list a prefix only, as a careful policy has it, is told 403 instead of 404 of a missing object."""
    code = error_code(error)
    if code in DENIED_CODES:
        page = client.list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        return all(item["Key"] != place.key for item in page.get("Contents", []))
    return code in MISSING_CODES


def _read(place: S3Location) -> tuple[bytes, str] | None:
    """Content and ETag of an object, read together."""

    def read(client: Any, _: bool) -> tuple[bytes, str] | None:
        try:
            found = client.get_object(**address(place))
            return found["Body"].read(), found["ETag"]
        except ClientError as error:
            if is_missing(client, place, error):
                return None
            raise

    return patiently(place, "read", read)


def _put_if(place: S3Location, content: bytes, condition: dict[str, str]) -> bool:
    def put(client: Any, is_repeated: bool) -> bool:
        try:
            client.put_object(**address(place), **_body(content), **condition)
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


def _prefix(folder: S3Location) -> str:
    return f"{folder.key}/" if folder.key else ""


def _body(content: bytes) -> dict[str, Any]:
    return {"Body": content, **sha256_of_body(hashlib.sha256(content).digest())}
