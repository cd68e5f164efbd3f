"""Files to and from S3: large ones in parts, of which what is through is not sent again when the rest fails.

boto3's transfer manager begins anew instead, and keeps the credentials that it began with (docs/decisions.md).
"""

import hashlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from behaviorlm.errors import StorageError
from behaviorlm.files.patient_reads import Deadline
from behaviorlm_ray.storage import s3_access
from behaviorlm_ray.storage.full_disk import storage_errors
from behaviorlm_ray.storage.local import hash_file as hash_local_file
from behaviorlm_ray.storage.locations import FileDigest, S3Location
from behaviorlm_ray.storage.s3_access import error_code, patiently
from behaviorlm_ray.storage.s3_objects import (
    SHA256,
    Span,
    address,
    digest_of,
    in_threads,
    receive_some,
    sha256_of_body,
)

SINGLE_REQUEST_BYTES = 16 << 20
"""Larger files go up and come down in several parts; S3 keeps no SHA-256 of the whole of those."""
UPLOAD_PART_BYTES, UPLOADS_AT_ONCE = 5 << 20, 3
"""A part that is cut short is sent again whole, so they are small, and few at once. 5 MiB are S3's least."""
DOWNLOAD_PART_BYTES, DOWNLOADS_AT_ONCE = 16 << 20, 8
"""A part that is cut short goes on from the block at which it was."""
MOST_PARTS = 10_000
"""That S3 takes."""
TELL_SECONDS = 10.0
"""How often a transfer tells how far it is."""

T = TypeVar("T")


class _Transfer:
    """How far a transfer is. State: the bytes that are through, and what they put off: giving up, and telling."""

    def __init__(self, place: S3Location, action: str, total: int) -> None:
        self.place, self.action, self._total = place, action, total
        self.deadline = Deadline(place.patience_seconds, s3_access.CLOCK)
        self._lock = threading.Lock()
        self._done, self._begun = 0, s3_access.CLOCK.monotonic()
        self._told = self._begun

    def add(self, count: int) -> None:
        """So many bytes more are through."""
        self.deadline.restart()
        with self._lock:
            self._done += count
            now = s3_access.CLOCK.monotonic()
            if now - self._told < TELL_SECONDS:
                return
            self._told = now
            rate = self._done / 2**20 / (now - self._begun)
            sys.stdout.write(
                f"storage: {self.action} {self.place}: {self._done / self._total:.0%} of "
                f"{self._total / 2**20:,.0f} MiB, {rate:,.1f} MiB/s\n"
            )
            sys.stdout.flush()

    def patiently(self, operation: Callable[[Any, bool], T]) -> T:
        """As `s3_access.patiently`, for as long as any part of the transfer gets on."""
        return patiently(self.place, self.action, operation, self.deadline)


def upload(path: Path, place: S3Location) -> FileDigest:
    """Store a local file. Raises StorageError; an object that was there before is replaced whole or not at all."""
    digest = hash_local_file(path)

    def send(client: Any, _: bool) -> None:
        with open(path, "rb") as stream:
            client.put_object(**address(place), Body=stream, **sha256_of_body(bytes.fromhex(digest.sha256)))

    with storage_errors(path, "read"):
        if digest.bytes > SINGLE_REQUEST_BYTES:
            _upload_in_parts(path, place, digest)
        else:
            patiently(place, "write", send)
    return digest


def download(place: S3Location, path: Path, size: int) -> FileDigest:
    """Copy an object of so many bytes into a local file. Returns what was received, which the caller verifies.

    StorageError if there is no object or it ends too early.
    """
    transfer = _Transfer(place, "read", size)
    length = size if size <= SINGLE_REQUEST_BYTES else DOWNLOAD_PART_BYTES
    with storage_errors(path, "write"), open(path, "wb") as stream:
        target = stream.fileno()
        _at_once(lambda span: _receive(transfer, target, span, size), _spans(size, length), DOWNLOADS_AT_ONCE)
    return hash_local_file(path)


def of_each(function: Callable[[str], T], sizes: Mapping[str, int]) -> list[T]:
    """Results in order, of files by name: small ones many at once, large ones one by one, as their parts are."""
    small = [name for name, size in sizes.items() if size <= SINGLE_REQUEST_BYTES]
    found = dict(zip(small, in_threads(function, small), strict=True))
    return [found[name] if name in found else function(name) for name in sizes]


def _upload_in_parts(path: Path, place: S3Location, digest: FileDigest) -> None:
    transfer = _Transfer(place, "write", digest.bytes)
    length = max(UPLOAD_PART_BYTES, -(-digest.bytes // MOST_PARTS))
    kept: dict[str, Any] = {"ChecksumAlgorithm": "SHA256", "Metadata": {SHA256: digest.sha256}}
    begun = transfer.patiently(lambda client, _: client.create_multipart_upload(**address(place), **kept))
    upload_id = {"UploadId": begun["UploadId"]}
    try:
        with open(path, "rb") as stream:
            source = stream.fileno()
            parts = _at_once(
                lambda span: _send(transfer, source, span, upload_id | {"PartNumber": span[0] // length + 1}),
                _spans(digest.bytes, length),
                UPLOADS_AT_ONCE,
            )
        transfer.patiently(
            lambda client, _: client.complete_multipart_upload(
                **address(place), **upload_id, MultipartUpload={"Parts": parts}
            )
        )
    except (ClientError, StorageError) as error:
        # Sent before with its answer lost, the last request may have been carried out.
        if error_code(error) != "NoSuchUpload" or digest_of(place) != digest:
            _abort(place, upload_id)
            raise
    except BaseException:
        _abort(place, upload_id)
        raise


def _abort(place: S3Location, upload_id: dict[str, str]) -> None:
    """Parts that stay behind cost money. Tried once: the bucket's own rule finds what is left (docs/storage.md)."""
    with suppress(BotoCoreError, ClientError, StorageError):
        client = s3_access.client()
        client.abort_multipart_upload(**address(place), **upload_id)


def _send(transfer: _Transfer, source: int, span: Span, part: dict[str, Any]) -> dict[str, Any]:
    """Send one part, whose SHA-256 the server verifies. Returns what completes the upload."""
    content = os.pread(source, span[1] - span[0], span[0])
    checksum = sha256_of_body(hashlib.sha256(content).digest())

    def send(client: Any, _: bool) -> Any:
        # Of a stream boto3 asks first whether it may send: a server that throttles or refuses costs no bytes.
        body = io.BytesIO(content)
        return client.upload_part(**address(transfer.place), **part, Body=body, **checksum)

    etag = transfer.patiently(send)["ETag"]
    transfer.add(len(content))
    return {"PartNumber": part["PartNumber"], "ETag": etag, "ChecksumSHA256": checksum["ChecksumSHA256"]}


def _receive(transfer: _Transfer, target: int, span: Span, size: int) -> None:
    """Get one part of an object; an answer that breaks off is gone on with where it did."""
    begin, end = span

    def take(block: bytes) -> None:
        nonlocal begin
        os.pwrite(target, block, begin)
        begin += len(block)
        transfer.add(len(block))

    def receive(client: Any, _: bool) -> None:
        nonlocal begin
        try:
            receive_some(client, transfer.place, (begin, end), size, take)
        except FlexibleChecksumError:  # told at the end of an answer, of any of its bytes
            begin = span[0]
            raise

    transfer.patiently(receive)
    while begin < end:
        transfer.patiently(receive)


def _spans(size: int, length: int) -> list[Span]:
    """[begin, end) of each part; one empty one of an empty file."""
    return [(begin, min(size, begin + length)) for begin in range(0, max(1, size), max(1, length))]


def _at_once(function: Callable[[Span], T], spans: Iterable[Span], count: int) -> list[T]:
    """Results in order. After an error no more are begun."""
    with ThreadPoolExecutor(max_workers=count) as threads:
        try:
            return list(threads.map(function, spans))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
