"""An exported folder on a real S3 server, with an object whose key leads out of it."""

from pathlib import Path

import boto3
import pytest

from behaviorlm.predictor.artifact import DESCRIPTION
from behaviorlm.predictor.places import local_folder
from behaviorlm_ray.storage import S3Location


@pytest.mark.parametrize("key", ["../evil", "below/../../evil", "../../../../../../../tmp/evil-7f3a"])
def test_what_is_copied_stays_in_the_copy(s3_root: S3Location, tmp_path: Path, key: str) -> None:
    """Arrow's S3 passes over such an object."""
    client = boto3.client("s3")
    for name in (DESCRIPTION, key):
        client.put_object(Bucket=s3_root.bucket, Key=f"{s3_root.key}/exported/{name}", Body=b"planted")
    there = client.list_objects_v2(Bucket=s3_root.bucket, Prefix=f"{s3_root.key}/exported/")["Contents"]
    assert f"{s3_root.key}/exported/{key}" in {found["Key"] for found in there}
    with local_folder(f"{s3_root}/exported") as folder:
        assert [path.name for path in folder.rglob("*") if path.is_file()] == [DESCRIPTION]
        assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil-7f3a").exists()
