"""S3 alone: checksums tell what changed, copies are verified and shared, the way there is checked and described."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import S3Location, s3_access, s3_objects, s3_transfers
from tests.platform.s3_faults import FaultyProxy

CONTENT = b"content " * 1000


def committed(root: S3Location) -> S3Location:
    """A folder whose digests are known, as after a commit."""
    with storage.writing(root / "model") as folder:
        (folder / "sub").mkdir()
        (folder / "weights").write_bytes(CONTENT)
        (folder / "sub" / "config").write_bytes(b"{}")
    known = storage.with_digests(root / "model", storage.describe_folder(root / "model"))
    assert isinstance(known, S3Location)
    return known


def rot(place: S3Location, content: bytes) -> None:
    """Change what is stored while the stored checksum stays; needs a server that does not check."""
    checksum = boto3.client("s3").head_object(Bucket=place.bucket, Key=place.key, ChecksumMode="ENABLED")
    boto3.client("s3").put_object(
        Bucket=place.bucket,
        Key=place.key,
        Body=content,
        ChecksumAlgorithm="SHA256",
        ChecksumSHA256=checksum["ChecksumSHA256"],
    )


def requests(proxy: FaultyProxy) -> list[str]:
    """Methods served since the last call."""
    served, proxy.served = proxy.served, []
    return served


def test_reuse_is_verified_without_reading_what_is_stored(s3_root: S3Location, proxy: FaultyProxy) -> None:
    known = committed(s3_root)
    requests(proxy)
    assert known.digests is not None
    assert storage.damaged_files(known, known.digests) == []
    assert sorted(requests(proxy)) == ["GET", "HEAD", "HEAD"]  # one listing


def test_of_what_was_committed_nothing_is_overlooked(s3_root: S3Location, proxy: FaultyProxy) -> None:
    known = committed(s3_root)
    boto3.client("s3").delete_object(Bucket=known.bucket, Key=(known / "weights").key)
    requests(proxy)
    assert storage.list_files(known) == ["sub/config", "weights"] and requests(proxy) == []
    with pytest.raises(StorageError, match="model/weights"):
        storage.local_copy(known / "weights")


def test_objects_without_a_checksum_of_their_whole_are_read(s3_root: S3Location, proxy: FaultyProxy) -> None:
    place = s3_root / "copied"
    boto3.client("s3").put_object(Bucket=place.bucket, Key=place.key, Body=CONTENT)
    requests(proxy)
    assert storage.hash_file(place).sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert requests(proxy) == ["HEAD", "GET"]


def test_large_objects_go_up_in_parts_and_keep_their_hash(
    s3_root: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfers, "SINGLE_REQUEST_BYTES", 5 << 20)
    content = os.urandom(12 << 20)
    with storage.writing_file(s3_root / "large") as path:
        path.write_bytes(content)
    head = boto3.client("s3").head_object(Bucket=s3_root.bucket, Key=(s3_root / "large").key)
    assert head["ETag"].strip('"').endswith("-1") or "-" in head["ETag"]
    assert storage.hash_file(s3_root / "large").sha256 == hashlib.sha256(content).hexdigest()
    assert storage.local_copy(s3_root / "large").read_bytes() == content


def test_copies_are_fetched_once_by_content_and_shared(s3_root: S3Location, proxy: FaultyProxy) -> None:
    known = committed(s3_root)
    copy = storage.local_copy(known)
    assert (copy / "weights").read_bytes() == CONTENT and (copy / "sub" / "config").read_bytes() == b"{}"
    requests(proxy)
    assert storage.local_copy(known) == copy
    assert storage.local_copy(known / "weights").samefile(copy / "weights")
    storage.write_exclusive(s3_root / "same", CONTENT)
    same = storage.with_digests(
        s3_root / "same", {"": storage.FileDigest(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())}
    )
    requests(proxy)
    assert storage.local_copy(same).samefile(copy / "weights")
    assert requests(proxy) == []
    assert storage.copies_folder().stat().st_mode & 0o777 == 0o700
    assert (copy / "weights").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""])
@pytest.mark.parametrize("is_silent", [True, False])
def test_what_changed_after_the_check_is_found_when_it_is_fetched(
    s3_root: S3Location, content: bytes, is_silent: bool
) -> None:
    known = committed(s3_root)
    if is_silent:
        rot(known / "weights", content)
    else:
        storage.write_replacing(known / "weights", content)
    for place in (known, known / "weights"):
        with pytest.raises(StorageError, match=r"model/weights"):
            storage.local_copy(place)
    with pytest.raises(StorageError, match=r"model/weights"):
        storage.read_text(known / "weights")
    assert storage.local_copy(known / "sub" / "config").read_bytes() == b"{}"
    assert not [path for path in storage.copies_folder().iterdir() if path.name.startswith("folder-")]


@pytest.mark.parametrize("noted", ["SHA256", "CRC32"])
def test_what_was_damaged_on_its_way_is_fetched_again(
    s3_root: S3Location, proxy: FaultyProxy, noted: str
) -> None:
    place = s3_root / "object"
    boto3.client("s3").put_object(Bucket=place.bucket, Key=place.key, Body=CONTENT, ChecksumAlgorithm=noted)
    proxy.plan("flipped", method="GET")
    assert storage.local_copy(place).read_bytes() == CONTENT
    assert proxy.happened == ["flipped"]
    with pytest.raises(StorageError, match="is damaged"):
        proxy.plan("flipped", 2, method="GET")
        storage.read_bytes(place)


def test_what_is_missing_is_named(s3_root: S3Location) -> None:
    known = committed(s3_root)
    storage.remove_if(known / "weights", CONTENT)
    for place in (known, known / "weights", known / "never there", s3_root / "nowhere"):
        with pytest.raises(StorageError, match="is missing"):
            storage.local_copy(place)


def test_many_processes_fetch_the_same_folder_at_once(
    s3_root: S3Location, proxy: FaultyProxy, tmp_path: Path
) -> None:
    known = committed(s3_root)
    script = "import sys; from behaviorlm_ray import storage; print(storage.local_copy(storage.location(sys.argv[1])))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(known)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(4)
    ]
    found = {process.communicate()[0].strip() for process in started}
    assert len(found) == 1
    copy = Path(found.pop())
    assert (copy / "weights").read_bytes() == CONTENT
    assert (
        len([path for path in copy.parent.iterdir() if path.is_file() and not path.name.startswith(".")]) == 2
    )


def test_keys_that_lead_out_of_a_folder_are_refused(s3_root: S3Location) -> None:
    boto3.client("s3").put_object(Bucket=s3_root.bucket, Key=f"{s3_root.key}/model/../../evil", Body=b"x")
    with pytest.raises(StorageError, match="leads out of the folder"):
        storage.list_files(s3_root / "model")
    planted = storage.with_digests(
        s3_root / "model", {"../evil": storage.FileDigest(1, hashlib.sha256(b"x").hexdigest())}
    )
    with pytest.raises(StorageError, match="leads out of the folder"):
        storage.local_copy(planted)


def test_a_folder_for_copies_that_others_may_write_is_refused(s3_root: S3Location) -> None:
    storage.copies_folder().chmod(0o777)
    with pytest.raises(StorageError, match="can be written by others"):
        storage.local_copy(committed(s3_root))


def test_a_root_that_can_be_used_passes_and_nothing_is_left_there(
    s3_root: S3Location, tmp_path: Path
) -> None:
    storage.check_root(s3_root, is_written=False)
    storage.check_root(s3_root, is_written=True)
    storage.check_root(tmp_path / "new" / "root", is_written=True)
    assert storage.list_files(s3_root) == []
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="no folder that this user may write into"):
        storage.check_root(tmp_path / "file" / "root", is_written=True)


def test_a_missing_bucket_is_named_with_the_endpoint(s3_root: S3Location) -> None:
    place = S3Location("no-such-bucket-here", "runs")
    with pytest.raises(
        StorageError, match=r"no bucket 'no-such-bucket-here' at http://127.*AWS_ENDPOINT_URL"
    ):
        storage.check_root(place, is_written=False)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("AccessDenied", 403, r"permission denied .*s3:ListBucket.*s3:PutObject"),
        ("PermanentRedirect", 400, r"in another region.*\(us-east-1\)\. Set AWS_REGION"),
        ("AuthorizationHeaderMalformed", 400, r"in another region.*Set AWS_REGION"),
        ("RequestTimeTooSkewed", 403, r"clock of this machine \(\d{4}-.*turn on NTP"),
        ("ExpiredToken", 400, r"credentials have expired\. Renew them and run the same command again"),
        ("InvalidAccessKeyId", 403, r"does not know these AWS credentials.*AWS_PROFILE"),
        ("SignatureDoesNotMatch", 403, r"does not know these AWS credentials.*AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_what_cannot_pass_is_told_at_once_in_words(
    s3_root: S3Location, proxy: FaultyProxy, code: str, status: int, message: str
) -> None:
    proxy.plan(code, 6, status=status)
    with pytest.raises(StorageError, match=message) as raised:
        storage.check_root(s3_root, is_written=True)
    assert len(proxy.happened) < 6  # it was not tried again until it passed
    assert str(s3_root) in str(raised.value)
    assert "test-secret" not in str(raised.value) and "test-key" not in str(raised.value)


def test_permission_to_write_is_tried_too(s3_root: S3Location, proxy: FaultyProxy) -> None:
    proxy.plan("AccessDenied", status=403, method="PUT")
    storage.check_root(s3_root, is_written=False)
    with pytest.raises(StorageError, match=r"cannot write s3://.*permission denied"):
        storage.check_root(s3_root, is_written=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_missing_object_is_told_from_a_forbidden_one(
    s3_root: S3Location, proxy: FaultyProxy, method: str
) -> None:
    """S3 answers 403 for both where the policy allows listing below a prefix only."""
    look = storage.read_bytes if method == "GET" else s3_objects.digest_of
    storage.write_exclusive(s3_root / "there", b"x")
    proxy.plan("AccessDenied", status=403, method=method)
    assert look(s3_root / "missing") is None
    proxy.plan("AccessDenied", status=403, method=method)
    with pytest.raises(StorageError, match="permission denied"):
        look(s3_root / "there")


def test_missing_credentials_are_told(
    s3_root: S3Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"no AWS credentials were found.*AWS_ACCESS_KEY_ID"):
        storage.check_root(s3_root, is_written=False)


def test_an_endpoint_that_is_not_there_is_told_soon(
    s3_root: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"http://127.0.0.1:9 did not serve.*AWS_ENDPOINT_URL"):
        storage.check_root(storage.with_patience(s3_root, 1.0), is_written=False)


def test_an_endpoint_that_is_no_address_is_told(s3_root: S3Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "storage.example:9000")
    with pytest.raises(
        StorageError, match=r"Invalid endpoint.*AWS_ENDPOINT_URL is an address such as https://"
    ):
        storage.check_root(s3_root, is_written=False)


def test_a_server_that_ignores_conditions_is_refused(s3_root: S3Location, proxy: FaultyProxy) -> None:
    proxy.ignores_conditions = frozenset({"PUT", "DELETE"})
    with pytest.raises(
        StorageError, match="ignores If-None-Match and If-Match and If-Match where it removes, so"
    ):
        storage.check_root(s3_root, is_written=True)
    assert storage.list_files(s3_root) == []


@pytest.mark.parametrize(
    ("before", "refused", "ignored"),
    [(1, 1, "If-None-Match"), (2, 1, "If-Match"), (1, 2, "If-None-Match and If-Match")],
)
def test_a_server_that_knows_no_conditions_on_writes_is_refused_at_once(
    s3_root: S3Location, proxy: FaultyProxy, before: int, refused: int, ignored: str
) -> None:
    proxy.plan("", before, method="PUT")
    proxy.plan("NotImplemented", refused, status=501, method="PUT")
    with pytest.raises(StorageError, match=f"this storage ignores {ignored}, so two jobs"):
        storage.check_root(s3_root, is_written=True)
    assert not proxy.planned and storage.list_files(s3_root) == []


@pytest.mark.parametrize("is_told", [True, False])
def test_a_server_that_removes_without_conditions_is_named_and_served(
    s3_root: S3Location, proxy: FaultyProxy, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some tell that they cannot, others do as if they could."""
    if is_told:
        proxy.plan("NotImplemented", status=501, method="DELETE")
    else:
        proxy.ignores_conditions = frozenset({"DELETE"})
    storage.check_root(s3_root, is_written=True)
    assert (
        "ignores If-Match where it removes; what that may cost is in docs/storage.md"
        in capsys.readouterr().out
    )
    storage.write_exclusive(s3_root / "file", b"ours")
    if is_told:
        proxy.plan("NotImplemented", status=501, method="DELETE")
    assert not storage.remove_if(s3_root / "file", b"theirs")
    assert storage.remove_if(s3_root / "file", b"ours")
    assert storage.list_files(s3_root) == []


def test_credentials_renewed_in_a_file_are_found_without_a_restart(
    s3_root: S3Location, proxy: FaultyProxy
) -> None:
    storage.write_exclusive(s3_root / "file", b"x")
    proxy.plan("ExpiredToken", status=400)
    assert storage.read_bytes(s3_root / "file") == b"x"
    assert proxy.happened == ["ExpiredToken"]


def test_credentials_that_expired_twice_while_a_request_was_on_its_way_are_looked_for_again(
    s3_root: S3Location,
) -> None:
    """What another request found after the first expiry may have expired, too, when this one is answered."""
    asked: list[object] = []

    def operation(client: Any, is_repeated: bool) -> str:
        asked.append(client)
        if len(asked) == 1:
            s3_access._renewed(client)
        if len(asked) < 3:
            raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetObject")
        return "read"

    assert s3_access.patiently(s3_root, "read", operation) == "read"
    assert len({id(client) for client in asked}) == 3


def test_checksums_are_those_of_the_content(s3_root: S3Location) -> None:
    storage.write_exclusive(s3_root / "file", CONTENT)
    place = s3_root / "file"
    head = boto3.client("s3").head_object(Bucket=place.bucket, Key=place.key, ChecksumMode="ENABLED")
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(CONTENT).digest()
    assert re.fullmatch(r"[0-9a-f]{64}", storage.hash_file(place).sha256)
