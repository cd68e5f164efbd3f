"""Large objects in parts: over a bad link each byte is sent about once, and what is stored is what was sent.

Sizes are 160 times smaller than those of large models: parts of 32 KiB over a link that breaks every 1.3 MB.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from behaviorlm.errors import StorageError
from behaviorlm.files.clock import SystemClock
from behaviorlm_ray import storage
from behaviorlm_ray.storage import S3Location, s3_access, s3_objects, s3_transfers
from cluster.chaos.link import Faults, Link, bad_link
from tests.platform.s3_faults import FaultyProxy

PART = 32 << 10
BREAK_BYTES = 40 * PART
"""As 200 MB are to parts of 5 MiB."""


class HastyClock(SystemClock):
    """Time passes, and nobody waits."""

    def sleep(self, seconds: float) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, and what is large, are small here; boto3 makes one attempt, so that all others are ours."""
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(s3_transfers, "SINGLE_REQUEST_BYTES", 2 * PART)
    monkeypatch.setattr(s3_transfers, "UPLOAD_PART_BYTES", PART)
    monkeypatch.setattr(s3_transfers, "DOWNLOAD_PART_BYTES", 8 * PART)
    monkeypatch.setattr(s3_transfers, "DOWNLOADS_AT_ONCE", 4)  # buffers of connections are no smaller here
    monkeypatch.setattr(s3_objects, "BLOCK_BYTES", PART // 8)
    monkeypatch.setattr(s3_access, "QUICK_ATTEMPTS", 1)
    monkeypatch.setattr(s3_access, "CLOCK", HastyClock())


def write_key(file: Path, number: int) -> None:
    """Credentials as a tool that renews them writes them: in place of the old ones, at once."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"[default]\naws_access_key_id = key-{number}\naws_secret_access_key = secret\n")
    fresh.replace(file)


@pytest.fixture
def credentials(s3_root: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "credentials"
    write_key(file, 0)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    return file


@pytest.fixture
def link(credentials: Path, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    faults = Faults(BREAK_BYTES, throttled_every=9, expire_bytes=3 * BREAK_BYTES, buffer_bytes=4 << 10)
    with bad_link(s3_environment, faults, lambda number: write_key(credentials, number)) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        monkeypatch.setenv("DIRECT_ENDPOINT_URL", s3_environment)
        yield running


def upload(root: S3Location, content: bytes) -> None:
    with storage.writing_file(root / "large") as path:
        path.write_bytes(content)


def uploads_begun(root: S3Location) -> list[object]:
    return boto3.client("s3").list_multipart_uploads(Bucket=root.bucket).get("Uploads", [])


def test_over_a_link_that_breaks_throttles_and_lets_credentials_expire_bytes_go_once(
    s3_root: S3Location, link: Link
) -> None:
    content = os.urandom(5 * BREAK_BYTES + 1234)
    upload(s3_root, content)
    assert link.breaks >= 5 and link.throttled >= 5 and link.expiries >= 1 and link.refused >= 1
    assert len(content) < link.sent <= 1.1 * len(content)  # a break costs something
    before = link.breaks, link.expiries, link.received
    assert storage.local_copy(s3_root / "large").read_bytes() == content
    assert link.breaks >= before[0] + 5 and link.expiries > before[1]
    assert link.received - before[2] <= 1.1 * len(content)
    assert uploads_begun(s3_root) == []


def test_a_large_object_whose_checksum_nobody_noted_is_read_once(s3_root: S3Location, link: Link) -> None:
    content = os.urandom(5 * BREAK_BYTES)
    boto3.client("s3", endpoint_url=os.environ["DIRECT_ENDPOINT_URL"]).put_object(
        Bucket=s3_root.bucket, Key=(s3_root / "copied").key, Body=content
    )
    assert storage.hash_file(s3_root / "copied").sha256 == hashlib.sha256(content).hexdigest()
    assert link.breaks >= 5 and link.received <= 1.1 * len(content)


@pytest.mark.parametrize("size", [2 * PART, 2 * PART + 1, 8 * PART - 1, 8 * PART, 16 * PART, 16 * PART + 1])
def test_what_comes_back_is_what_was_sent(s3_root: S3Location, size: int) -> None:
    content = os.urandom(size)
    upload(s3_root, content)
    assert storage.hash_file(s3_root / "large").bytes == size
    assert storage.local_copy(s3_root / "large").read_bytes() == content


def test_a_folder_of_large_and_small_files_goes_both_ways(s3_root: S3Location) -> None:
    files = {"small": b"x", "empty": b"", "sub/large": os.urandom(9 * PART), "large": os.urandom(3 * PART)}
    with storage.writing(s3_root / "model") as folder:
        (folder / "sub").mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    copy = storage.local_copy(s3_root / "model")
    assert {name: (copy / name).read_bytes() for name in files} == files


def test_patience_begins_anew_with_each_part(
    s3_root: S3Location, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all it takes many times the patience; each part takes less."""

    class SlowClock(HastyClock):
        moved = 0.0

        def monotonic(self) -> float:
            return self.moved

        def sleep(self, seconds: float) -> None:
            self.moved += 2.0

    clock = SlowClock()
    monkeypatch.setattr(s3_access, "CLOCK", clock)
    monkeypatch.setattr(s3_transfers, "UPLOADS_AT_ONCE", 1)
    for _ in range(12):
        proxy.plan("SlowDown", 2, status=503, method="PUT")
        proxy.plan("", method="PUT")
    content = os.urandom(12 * PART)
    upload(storage.with_patience(s3_root, 5.0), content)  # type: ignore[arg-type]
    assert clock.moved == 48.0
    assert storage.read_bytes(s3_root / "large") == content
    proxy.plan("SlowDown", 1000, status=503, method="PUT")
    with pytest.raises(StorageError, match=r"did not serve the request for 5 s \(SlowDown\)"):
        upload(storage.with_patience(s3_root, 5.0), content)  # type: ignore[arg-type]
    assert uploads_begun(s3_root) == []
    assert storage.read_bytes(s3_root / "large") == content


def test_the_last_request_may_lose_its_answer(s3_root: S3Location, proxy: FaultyProxy) -> None:
    proxy.plan("", method="POST")
    proxy.plan("lost", method="POST")
    content = os.urandom(4 * PART)
    upload(s3_root, content)
    assert proxy.happened == ["lost"]
    assert storage.local_copy(s3_root / "large").read_bytes() == content


def test_credentials_that_nobody_renews_end_it_at_once_and_leave_nothing(
    s3_root: S3Location, s3_environment: str, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bad_link(s3_environment, Faults(expire_bytes=6 * PART)) as link:
        monkeypatch.setenv("AWS_ENDPOINT_URL", link.endpoint)
        with pytest.raises(StorageError, match="credentials have expired"):
            upload(s3_root, os.urandom(40 * PART))
        assert link.sent < 12 * PART
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_environment)
    assert storage.read_bytes(s3_root / "large") is None


@pytest.mark.parametrize("change", [-1, 1, 0])
def test_a_large_object_that_changed_is_told(s3_root: S3Location, change: int) -> None:
    content = os.urandom(20 * PART)
    upload(s3_root, content)
    known = storage.with_digests(s3_root / "large", {"": storage.hash_file(s3_root / "large")})
    changed = {-1: content[:-1], 1: content + b"x", 0: content[:-1] + bytes([content[-1] ^ 1])}
    upload(s3_root, changed[change])
    with pytest.raises(StorageError, match="has changed since it was written"):
        storage.local_copy(known)
    assert not [path for path in storage.copies_folder().iterdir() if not path.name.endswith(".lock")]
